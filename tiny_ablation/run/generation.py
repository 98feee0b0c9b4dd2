"""What a run writes (`metrics.span=text`): how, and how much at most."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tiny_ablation.config.schema import RootConfig
from tiny_ablation.config.seeds import generator
from tiny_ablation.data.tokens import TokenizedExample
from tiny_ablation.engine.decoding import Decoding, end_tokens
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.written import Asked

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network


def decoding_of(root: RootConfig, network: "Network", tokens: Sequence[TokenizedExample]) -> Decoding:
    """How the continuations of these examples are written."""
    cfg, examples = root.generate, [each.example for each in tokens]
    asked = [Asked(e.id, e.clean, e.right, e.wrong, cfg.pattern) for e in examples]
    seeds = [int(generator(root.seed, "sampled tokens", e.id).integers(2**62)) for e in examples]
    tokenizer = network.model.tokenizer
    ends = end_tokens(network.hf, tokenizer)
    return Decoding(tokenizer, ends, cfg.max_new_tokens, cfg.temperature, tuple(cfg.stop or ()), asked, seeds)


def require_room(
    root: RootConfig, network: "Network", planned: Sequence[tuple[Sequence[Prompt], int]], *, outline: bool = False
) -> None:
    """Refuse continuations that are too long for the model, or more than `generate.max_total` allows.

    Args:
        root: the config.
        network: the model.
        planned: prompts, and how many interventions on each of them.
        outline: whether only the cost is asked for.

    Raises:
        ConfigError: says how much it would be, and what makes it less.
    """
    new, context = root.generate.max_new_tokens, network.model.context
    longest = max((len(prompt.ids) for prompts, _ in planned for prompt in prompts), default=0)
    if context is not None and longest + new > context:
        raise ConfigError(
            f"generate.max_new_tokens={new}: the longest prompt has {longest:,} tokens, and the model was made for {context:,} "
            f"in all; write at most {context - longest:,}, or choose shorter prompts"
        )
    cells = sum(len(prompts) * n for prompts, n in planned)
    if not outline and cells * new > root.generate.max_total:
        examples = max(len(prompts) for prompts, _ in planned)
        raise ConfigError(
            f"metrics.span=text: this run may write {cells * new:,} tokens ({cells // max(1, examples):,} interventions on "
            f"{examples:,} examples, up to {new} tokens each), more than generate.max_total={root.generate.max_total:,}. Name "
            "fewer sites (ablation.layers, ablation.heads), take fewer examples (dataset.n_examples) or fewer tokens "
            "(generate.max_new_tokens), or raise generate.max_total; tiny-ablate plan says how long it takes"
        )
