"""Scale every head, one at a time: factor 0 removes it, 0.5 halves it, 1 is the baseline.

Answers: how does the behaviour change when one head's output is turned down? Zero is far from what a head ever writes, so an
effect says that the model *uses* the head's output, not that the head computes the answer: compare with mean and resample
ablation (Wang et al. 2022, section 3; Miller et al. 2024).
"""

from dataclasses import dataclass, field

from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.errors import ConfigError
from tiny_ablation.interventions.plan import HeadSitesConfig, Kind, Leg, PlanContext, Row, SixTuple
from tiny_ablation.interventions.replacements import Scale
from tiny_ablation.interventions.sites import check_list, check_positions, chosen


@dataclass
class HeadsZeroConfig(HeadSitesConfig):
    """`ablation` keys of heads_zero."""

    scales: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0])


class HeadsZero(Kind):
    """See the module."""

    name = "heads_zero"
    table = "head_impact"
    config = HeadsZeroConfig

    def check(self, cfg: HeadsZeroConfig) -> None:
        """Refuse lists that name nothing, and unknown positions."""
        for key in ("layers", "heads", "scales"):
            check_list(getattr(cfg, key), f"ablation.{key}")
        if any(abs(scale) == float("inf") or scale != scale for scale in cfg.scales):
            raise ConfigError(f"ablation.scales={cfg.scales}: a factor must be a finite number")
        check_positions(cfg.positions)

    def plan(self, cfg: HeadsZeroConfig, context: PlanContext) -> list[Leg]:
        """Every (layer, head, scale)."""
        replacements = [(scale, Scale(scale)) for scale in cfg.scales]
        rows = [
            _row(layer, head, scale, replacement, cfg.positions)
            for layer in chosen(cfg.layers, context.shape.n_layers, "ablation.layers", "layers")
            for head in chosen(cfg.heads, context.shape.n_heads, "ablation.heads", "heads a layer")
            for scale, replacement in replacements
        ]
        return [Leg(context.clean, rows)]


def _row(layer: int, head: int, scale: float, replacement: Scale, positions: str) -> Row:
    edit = Edit("z", layer, head, replacement, positions)
    return Row(
        key={"layer": layer, "head": head, "scale": scale},
        intervention=None if scale == 1 else Intervention((edit,)),
        six=SixTuple("head", "z", replacement.name, positions, "clean"),
    )


KIND = HeadsZero()
