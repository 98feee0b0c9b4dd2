"""Set pairs of heads to zero, within and across layers, and compare with what each does alone.

Answers: which heads back each other up? Single ablations miss a redundant pair, since each head stands in for the other ("self-
repair", Wang et al. 2022, section 3.4; McGrath et al. 2023). For each pair the table holds the joint effect E(ab), both single
effects from the same run, and the interaction E(ab) - E(a) - E(b) with its interval. Costs one run a pair and one a head.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.shared.head_ranking import head_ranking
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.ablations.shared.sites import Head, parse_head
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.document import Figure, Section
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.run.plan import Ablation, Arm, InterventionSpec, PlanContext, Row, positions_key
from tiny_ablation.store.reader import load_run

if TYPE_CHECKING:
    import pandas as pd

    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun
    from tiny_ablation.run.result import Result

_WAYS = ("pairs", "of", "from_run")


@dataclass
class HeadsPairZeroConfig(AblationConfig):
    """`ablation` keys of heads_pair_zero; one of pairs, of and from_run is given."""

    pairs: list[list[Any]] | None = key(None, help="such as [[L0H1, L5H2]]")
    of: list[Any] | None = key(None, help="such as [L0H1, L1H3, L5H2]: all pairs of these")
    from_run: str | None = key(
        None, help="the directory of an earlier run over heads; its run_id identifies it", identity=False
    )
    top_k: int = key(12, help="all pairs of so many of its strongest heads", least=2)
    positions: str = positions_key()


class HeadsPairZero(Ablation):
    """See the module."""

    name = "heads_pair_zero"
    table = "pair_impact"
    config = HeadsPairZeroConfig

    def check(self, cfg: HeadsPairZeroConfig) -> None:
        """Refuse heads that are named in no way or in several, and pairs that are not two heads."""
        given = [way for way in _WAYS if getattr(cfg, way) is not None]
        if len(given) != 1:
            said = f"{' and '.join(f'ablation.{way}' for way in given)} are set" if given else "no heads are named"
            raise ConfigError(
                f"ablation=heads_pair_zero: {said}; name heads in one way: 'ablation.pairs=[[L0H1,L5H2]]', "
                "'ablation.of=[L0H1,L1H3,L5H2]', or ablation.from_run=DIR ablation.top_k=12"
            )
        for pair in cfg.pairs or []:
            if len(pair) != 2:
                raise ConfigError(f"ablation.pairs: {pair} names {len(pair)} heads; a pair is two, such as [L0H1, L5H2]")
        if cfg.of is not None and len(cfg.of) < 2:
            raise ConfigError(f"ablation.of={cfg.of} names one head; there is no pair in it")

    def input_digest(self, cfg: HeadsPairZeroConfig) -> str:
        """The identity of the earlier run."""
        return load_run(Path(cfg.from_run)).manifest.run_id if cfg.from_run is not None else ""

    def columns(
        self, prepared: "PreparedRun", measured: "Measured", arms: "Sequence[Measured]", metric: str
    ) -> Mapping[str, Any]:
        """Both single effects, and the interaction."""
        from tiny_ablation.ablations.pairs.interaction import interaction_columns

        return interaction_columns(prepared, measured, arms, metric)

    def figures(self, result: "Result") -> "Iterable[Figure]":
        """The matrix of interactions."""
        from tiny_ablation.ablations.pairs.interaction import pair_matrix

        return [pair_matrix(result)]

    def summarise(self, effects: "pd.DataFrame") -> Mapping[str, Any]:
        """The pairs that interact."""
        from tiny_ablation.ablations.pairs.interaction import interactions

        found = interactions(effects)
        return {} if found is None else {"interactions": found}

    def sections(self, summary: Mapping[str, Any]) -> list[Section]:
        """The same in words."""
        from tiny_ablation.ablations.pairs.interaction import sections

        return sections(summary.get("interactions"))

    def plan(self, cfg: HeadsPairZeroConfig, context: PlanContext) -> list[Arm]:
        """An arm of pairs, and one of the heads in them, each alone, written as a pair of a head with itself."""
        zero = Scale(0.0)

        def row(a: Head, b: Head) -> Row:
            edits = tuple(Edit("z", layer, head, zero, cfg.positions) for layer, head in dict.fromkeys((a, b)))
            return Row(
                key={"layer_a": a[0], "head_a": a[1], "layer_b": b[0], "head_b": b[1]},
                intervention=Intervention(edits),
                described=InterventionSpec("head", "z", zero.name, cfg.positions, "clean", "single" if a == b else "pair"),
            )

        pairs = _pairs(cfg, context.shape)
        heads = sorted({head for pair in pairs for head in pair})
        return [
            Arm(context.clean, [row(a, b) for a, b in pairs]),
            Arm(context.clean, [row(head, head) for head in heads], in_table=False),
        ]


def _pairs(cfg: HeadsPairZeroConfig, shape: ModelShape) -> list[tuple[Head, Head]]:
    """The pairs, each with its earlier head first.

    Raises:
        ConfigError: a head or a pair is named twice, or the earlier run was not over heads, over too few, or of another model.
    """
    if cfg.pairs is not None:
        out: list[tuple[Head, Head]] = []
        for value in cfg.pairs:
            a, b = sorted(parse_head(head, shape, "ablation.pairs") for head in value)
            if a == b:
                raise ConfigError(f"ablation.pairs: {list(value)} is one head twice; name two")
            if (a, b) in out:
                raise ConfigError(f"ablation.pairs names {list(value)} more than once")
            out.append((a, b))
        return out
    if cfg.of is not None:
        heads = [parse_head(value, shape, "ablation.of") for value in cfg.of]
        twice = [value for i, value in enumerate(cfg.of) if heads[i] in heads[:i]]
        if twice:
            raise ConfigError(f"ablation.of names {twice[0]} more than once")
    else:
        heads = head_ranking(str(cfg.from_run), shape).ranked()[: cfg.top_k]
        if len(heads) < cfg.top_k:
            raise ConfigError(
                f"ablation.from_run={cfg.from_run} measured {len(heads)} heads, fewer than ablation.top_k={cfg.top_k}"
            )
    return list(combinations(sorted(heads), 2))


ABLATIONS = (HeadsPairZero(),)
