"""What `attn_zero` and `mlp_zero` share: a whole component set to zero, layer by layer."""

from typing import ClassVar

from tiny_ablation.interventions.plan import Kind, LayerSitesConfig, Leg, PlanContext
from tiny_ablation.interventions.replacements import Scale
from tiny_ablation.interventions.rows import layer_row
from tiny_ablation.interventions.sites import check_layer_sites, layer_sites


class LayerZero(Kind):
    """Zero one component of every layer.

    Attributes:
        component: the hook point, such as `mlp_out`.
    """

    table = "layer_impact"
    config = LayerSitesConfig
    component: ClassVar[str]

    def check(self, cfg: LayerSitesConfig) -> None:
        """Refuse a list that names nothing, and unknown positions."""
        check_layer_sites(cfg)

    def plan(self, cfg: LayerSitesConfig, context: PlanContext) -> list[Leg]:
        """Every layer."""
        zero, layers = Scale(0.0), layer_sites(cfg, context.shape)
        return [Leg(context.clean, [layer_row(cfg, self.component, layer, zero) for layer in layers])]
