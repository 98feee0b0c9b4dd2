"""Replace every layer's MLP output by its mean over other examples, one layer at a time.

Answers: does the behaviour need what this MLP computes from *this* prompt, rather than what it adds to any? The means come from
examples that are not evaluated; see `tiny_ablation.ablations.shared.means`.
"""

from dataclasses import dataclass

from tiny_ablation.ablations.shared.mean_keys import MeanAblation, MeanKeys
from tiny_ablation.ablations.shared.means import plan_means
from tiny_ablation.ablations.shared.rows import layer_row
from tiny_ablation.ablations.shared.screening import LayerScreenKeys, ScreenedAblation, screened
from tiny_ablation.ablations.shared.sites import layer_sites
from tiny_ablation.run.plan import Arm, LayerSitesConfig, PlanContext


@dataclass
class MlpMeanConfig(LayerScreenKeys, MeanKeys, LayerSitesConfig):
    """`ablation` keys of mlp_mean."""


class MlpMean(ScreenedAblation, MeanAblation):
    """See the module."""

    name = "mlp_mean"
    table = "layer_impact"
    config = MlpMeanConfig

    def plan(self, cfg: MlpMeanConfig, context: PlanContext) -> list[Arm]:
        """Every layer."""
        layers = layer_sites(cfg, context.shape)
        means = plan_means(cfg, context, [("mlp_out", layer) for layer in layers])
        rows = [layer_row(cfg, "mlp_out", layer, means.replacement) for layer in layers]
        return [screened(Arm(context.clean, rows, notes=means.notes), cfg, context)]


ABLATIONS = (MlpMean(),)
