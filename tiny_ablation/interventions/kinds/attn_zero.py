"""Take away what all heads of a layer write together, biases included, one layer at a time.

Answers: at which layers does information have to move between tokens? Zero is far from what attention writes, so an effect says
that the model uses the layer's attention, not that it computes the answer there.
"""

from tiny_ablation.interventions.plan import Kind, LayerSitesConfig, Leg, PlanContext
from tiny_ablation.interventions.replacements import Scale
from tiny_ablation.interventions.rows import layer_row
from tiny_ablation.interventions.sites import check_layer_sites, layer_sites


class AttnZero(Kind):
    """See the module."""

    name = "attn_zero"
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
                [layer_row(cfg, "attn_out", layer, zero) for layer in layer_sites(cfg, context.shape)],
            )
        ]


KIND = AttnZero()
