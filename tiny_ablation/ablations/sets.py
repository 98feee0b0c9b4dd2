"""Remove named sets of heads together, or, with `keep`, everything but them.

Answers: are these heads necessary together (removed), and are they sufficient (kept)? Each set is compared with random sets of
the same size in the same layers, since removing many heads of a model does harm whichever they are: `percentile` says how many
of the random sets have a smaller effect.

    ablation=heads_set_zero 'ablation.sets={movers: [L9H9, L9H10], early: [L0H1, L0H3]}'

Reference: Wang et al. 2022, section 4 (knocking out circuits and their complements).
"""

from dataclasses import dataclass
from typing import Any

from tiny_ablation.ablations.shared.head_sets import HeadSet, SetAblation, complement, label, parse_sets, random_sets
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.run.plan import Arm, InterventionSpec, PlanContext, Row, positions_key


@dataclass
class HeadsSetZeroConfig(AblationConfig):
    """`ablation` keys of heads_set_zero."""

    # Any, since the command line adds no keys to a typed dict.
    sets: Any = key(None, help="{name: heads}, such as {early: [L0H1, L5H10]}; has to be given")
    keep: bool = key(False, help="keep only the heads of the set and remove all others")
    n_random: int = key(20, help="random sets to compare each with; 0 for none", least=0)
    positions: str = positions_key()


class HeadsSetZero(SetAblation):
    """See the module."""

    name = "heads_set_zero"
    config = HeadsSetZeroConfig

    def check(self, cfg: HeadsSetZeroConfig) -> None:
        """Refuse sets that are empty or not in head notation."""
        parse_sets(cfg.sets)

    def plan(self, cfg: HeadsSetZeroConfig, context: PlanContext) -> list[Arm]:
        """One arm with the named sets, and one for the random sets of each."""
        sets = parse_sets(cfg.sets, context.shape)
        arms = [Arm(context.clean, [_row(cfg, name, heads, context.shape) for name, heads in sets.items()])]
        for name, heads in sets.items():
            drawn = random_sets(heads, context.shape, cfg.n_random, context.seed, name)
            rows = [_row(cfg, f"{name}/random_{i}", other, context.shape) for i, other in enumerate(drawn)]
            if rows:
                arms.append(Arm(context.clean, rows, in_table=False, controls_of=name))
        return arms


def _row(cfg: HeadsSetZeroConfig, name: str, heads: HeadSet, shape: ModelShape) -> Row:
    zero = Scale(0.0)
    removed = complement(heads, shape) if cfg.keep else heads
    edits = tuple(Edit("z", layer, head, zero, cfg.positions) for layer, head in removed)
    return Row(
        key={"set": name, "size": len(heads)},
        intervention=Intervention(edits) if edits else None,
        described=InterventionSpec("complement" if cfg.keep else "set", "z", zero.name, cfg.positions, "clean", name),
        sites=label(heads),
    )


ABLATIONS = (HeadsSetZero(),)
