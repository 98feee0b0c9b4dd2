"""Take away every layer's MLP, one layer at a time.

Answers: at which layers does the behaviour use the MLP at all? Zero is far from what an MLP writes (the first one of
many models works like a second embedding), so compare with `mlp_mean`.
"""

from tiny_ablation.interventions.plan import Kind, LayerSitesConfig, Leg, PlanContext
from tiny_ablation.interventions.replacements import Scale
from tiny_ablation.interventions.rows import layer_row
from tiny_ablation.interventions.sites import check_layer_sites, layer_sites


class MlpZero(Kind):
    """See the module."""

    name = "mlp_zero"
    table = "layer_impact"
    config = LayerSitesConfig

    def check(self, cfg: LayerSitesConfig) -> None:
        """Refuse a list that names nothing, and unknown positions."""
        check_layer_sites(cfg)

    def plan(self, cfg: LayerSitesConfig, context: PlanContext) -> list[Leg]:
        """Every layer."""
        zero = Scale(0.0)
        return [
            Leg(
                context.clean,
                [layer_row(cfg, "mlp_out", layer, zero) for layer in layer_sites(cfg, context.shape)],
            )
        ]


KIND = MlpZero()
