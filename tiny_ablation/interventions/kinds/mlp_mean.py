"""Replace every layer's MLP output by its mean over other examples, one layer at a time.

Answers: does the behaviour need what this MLP computes from *this* prompt, rather than what it adds to any? The means come from
examples that are not evaluated; see `tiny_ablation.interventions.means`.
"""

from dataclasses import dataclass

from tiny_ablation.interventions.kinds._mean import MeanKeys, MeanKind
from tiny_ablation.interventions.means import check_mean, plan_means
from tiny_ablation.interventions.plan import LayerSitesConfig, Leg, PlanContext
from tiny_ablation.interventions.rows import layer_row
from tiny_ablation.interventions.screening import ScreenedKind, ScreenKeys, check_screen, screened
from tiny_ablation.interventions.sites import check_layer_sites, layer_sites


@dataclass
class MlpMeanConfig(ScreenKeys, MeanKeys, LayerSitesConfig):
    """`ablation` keys of mlp_mean."""


class MlpMean(ScreenedKind, MeanKind):
    """See the module."""

    name = "mlp_mean"
    table = "layer_impact"
    config = MlpMeanConfig

    def check(self, cfg: MlpMeanConfig) -> None:
        """Refuse a list that names nothing, and unknown positions and means."""
        check_layer_sites(cfg)
        check_mean(cfg)
        check_screen(cfg)

    def plan(self, cfg: MlpMeanConfig, context: PlanContext) -> list[Leg]:
        """Every layer."""
        layers = layer_sites(cfg, context.shape)
        means = plan_means(cfg, context, [("mlp_out", layer) for layer in layers])
        rows = [layer_row(cfg, "mlp_out", layer, means.replacement) for layer in layers]
        return [screened(Leg(context.clean, rows, notes=means.notes), cfg, context)]


KIND = MlpMean()
