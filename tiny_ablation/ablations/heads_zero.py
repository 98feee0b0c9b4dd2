"""Scale every head, one at a time: factor 0 removes it, 0.5 halves it, 1 is the baseline.

Answers: how does the behaviour change when one head's output is turned down? Zero is far from what a head ever writes, so an
effect says that the model *uses* the head's output, not that the head computes the answer: compare with mean and resample
ablation (Wang et al. 2022, section 3; Miller et al. 2024). `component=q|k|v` scales what the head reads with instead of what
it writes; k and v are counted on the key/value axis, where grouped-query models have fewer heads. `screen=attribution`
estimates every head from gradients first and measures only some of them; see `tiny_ablation.ablations.shared.screening`.
"""

from dataclasses import dataclass

from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.ablations.shared.screening import ScreenedAblation, ScreenKeys, screened
from tiny_ablation.ablations.shared.sites import head_sites
from tiny_ablation.config.keys import key
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.run.plan import Arm, HeadSitesConfig, InterventionSpec, PlanContext, Row


@dataclass
class HeadsZeroConfig(ScreenKeys, HeadSitesConfig):
    """`ablation` keys of heads_zero."""

    scales: list[float] = key([0.0, 0.5, 1.0], help="factors: 0 removes a head, 1 is the baseline")


class HeadsZero(ScreenedAblation):
    """See the module."""

    name = "heads_zero"
    table = "head_impact"
    config = HeadsZeroConfig

    def plan(self, cfg: HeadsZeroConfig, context: PlanContext) -> list[Arm]:
        """Every (layer, head, scale)."""
        replacements = [(scale, Scale(scale)) for scale in cfg.scales]
        rows = [
            _row(cfg, layer, head, scale, replacement)
            for layer, head in head_sites(cfg, context.shape)
            for scale, replacement in replacements
        ]
        return [screened(Arm(context.clean, rows), cfg, context)]


def _row(cfg: HeadsZeroConfig, layer: int, head: int, scale: float, replacement: Scale) -> Row:
    edit = Edit(cfg.component, layer, head, replacement, cfg.positions)
    return Row(
        key={"layer": layer, "head": head, "scale": scale},
        intervention=None if scale == 1 else Intervention((edit,)),
        described=InterventionSpec("head", cfg.component, replacement.name, cfg.positions, "clean"),
    )


ABLATIONS = (HeadsZero(),)
