"""Replace attention patterns: what a head attends to, while what it moves from there stays the run's own.

`uniform` spreads a head's attention evenly over all tokens that it may see: an effect says that the answer needs this head to
choose. `corrupt` puts the patterns of the corrupt run into the clean one, `clean` those of the clean run into the corrupt one:
an effect says that where the head looks carries what differs between the prompts, and not only what it finds there (the QK and
the OV circuit of Elhage et al. 2021, "A mathematical framework for transformer circuits").

Scores are products of queries and keys, so patterns are replaced through these. With queries of zero all scores are equal,
with the queries and keys of another run they are those of that run. Where that reaches other heads of the block, since heads
share keys or one norm, these get their own outputs back. That patterns are what this makes of them is proven on the model; see
`engine.attention`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tiny_ablation.ablations.shared import prompt_pairs
from tiny_ablation.ablations.shared.replacements import Patch, Scale, patch_from
from tiny_ablation.ablations.shared.sites import chosen_heads, chosen_layers
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Edit, Intervention, Replacement
from tiny_ablation.errors import ConfigError
from tiny_ablation.run.plan import Ablation, Arm, InterventionSpec, PlanContext, Row, positions_key

if TYPE_CHECKING:
    from torch import Tensor

_LAYERS = "attention patterns"  # the granularity of all heads of a layer at once


class Pattern(Enum):
    """What a head attends to instead: to all alike, or as in the other run of the pair."""

    uniform = "uniform"
    corrupt = "corrupt"
    clean = "clean"


@dataclass
class AttnPatternConfig(AblationConfig):
    """`ablation` keys of attn_pattern."""

    pattern: Pattern = key(Pattern.uniform)
    layers: list[int] | None = key(None, help="null: all")
    heads: list[int] | None = key(None, help="of every layer; null: all")
    together: bool = key(False, help="all heads of a layer at once, instead of one at a time")
    positions: str = positions_key("the tokens whose attention is replaced; last: with `uniform` only")
    unequal: str = key("refuse", help="pairs of unequal length, of `corrupt` and `clean`", choices=("refuse", "skip"))


class AttnPattern(Ablation):
    """See the module."""

    name = "attn_pattern"
    table = "head_impact"
    config = AttnPatternConfig

    def check(self, cfg: AttnPatternConfig) -> None:
        """Refuse keys that go against each other."""
        if cfg.together and cfg.heads is not None:
            raise ConfigError("ablation.heads is set, but ablation.together=true takes all heads of a layer; leave one out")
        if cfg.positions == "last" and cfg.pattern is not Pattern.uniform:
            raise ConfigError(
                f"ablation.positions=last with ablation.pattern={cfg.pattern.value}: keys of another run reach every token "
                "that sees them; use ablation.positions=all, or ablation.pattern=uniform"
            )

    def table_of(self, cfg: AttnPatternConfig) -> str:
        """One row a layer where heads are taken together."""
        return "layer_impact" if cfg.together else self.table

    def excluded_examples(self, cfg: AttnPatternConfig, context: PlanContext) -> Mapping[int, str]:
        """Pairs of unequal lengths, where that matters and the config asks to skip them."""
        skipped = cfg.unequal == "skip" and cfg.pattern is not Pattern.uniform
        return prompt_pairs.unequal(context) if skipped else {}

    def plan(self, cfg: AttnPatternConfig, context: PlanContext) -> list[Arm]:
        """A row for each head, or each layer."""
        from tiny_ablation.engine.attention import require_patterns  # imports torch

        uniform, shape = cfg.pattern is Pattern.uniform, context.shape
        if not uniform:
            what = f"ablation.pattern={cfg.pattern.value}"
            prompt_pairs.require_corrupt(context, what)
            prompt_pairs.require_equal(context, what, advice="ablation.unequal=skip leaves them out")
            if context.full:
                raise ConfigError(_NO_TOKENS.format(what))
        layers = chosen_layers(cfg.layers, shape, "z")
        heads = [None] if cfg.together else chosen_heads(cfg.heads, shape)
        apart = require_patterns(context.network, layers, uniform=uniform)
        if context.full and not (apart or cfg.together):
            raise ConfigError(_NO_TOKENS.format(f"ablation.together=false in {context.network.model.name}"))
        ends = {"clean": context.clean, "corrupt": context.corrupt}
        run = "corrupt" if cfg.pattern is Pattern.clean else "clean"
        put = Scale(0.0) if uniform else patch_from(ends[cfg.pattern.value], ends[run])
        own = patch_from(ends[run], ends[run])
        others = {head: OtherHeads(own.sources, own.lengths, head) for head in heads if head is not None and not apart}
        rows = [_row(cfg, run, layer, head, put, others) for layer in layers for head in heads]
        return [Arm(ends[run], rows, f"the {run} prompt, un-intervened", run=run)]


_NO_TOKENS = (
    "{} with metrics.span=full or text: it takes values from other runs, which have none for the tokens of an answer; use "
    "metrics.span=first, or ablation.pattern=uniform with ablation.together=true"
)


@dataclass(frozen=True, eq=False)
class OtherHeads(Patch):
    """Puts values of another run at all heads but one."""

    but: int = 0  # the head that stays

    def value(self, current: "Tensor", source: "Tensor | None", edit: Edit) -> "Tensor":  # noqa: ARG002
        """See `Replacement.value`."""
        assert source is not None
        new = source.to(current).clone()
        new[:, self.but] = current[:, self.but]
        return new


def _row(
    cfg: AttnPatternConfig, run: str, layer: int, head: int | None, put: Replacement, others: Mapping[int, OtherHeads]
) -> Row:
    uniform = cfg.pattern is Pattern.uniform
    # All queries and keys, since heads may share them, or one norm; else the query of the head alone.
    of_all = not uniform or head in others
    edits = [Edit("q", layer, None if of_all else head, put, cfg.positions)]
    edits += [] if uniform else [Edit("k", layer, None, put)]
    edits += [Edit("z", layer, None, others[head], cfg.positions)] if head is not None and head in others else []
    value = cfg.pattern.value if uniform else f"pattern of the {cfg.pattern.value} run"
    return Row(
        # As everywhere, scale is the share of what the head has there itself: none.
        key={"layer": layer, "granularity": _LAYERS} if head is None else {"layer": layer, "head": head, "scale": 0.0},
        intervention=Intervention(tuple(edits)),
        described=InterventionSpec(_LAYERS if head is None else "head", "pattern", value, cfg.positions, run),
    )


ABLATIONS = (AttnPattern(),)
