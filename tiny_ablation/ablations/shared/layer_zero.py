"""What `attn_zero` and `mlp_zero` share: a whole component set to zero, layer by layer."""

from dataclasses import dataclass
from typing import ClassVar

from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.ablations.shared.rows import layer_row
from tiny_ablation.ablations.shared.screening import LayerScreenKeys, ScreenedAblation, screened
from tiny_ablation.ablations.shared.sites import layer_sites
from tiny_ablation.run.plan import Arm, LayerSitesConfig, PlanContext


@dataclass
class LayerZeroConfig(LayerScreenKeys, LayerSitesConfig):
    """`ablation` keys of attn_zero and mlp_zero."""


class LayerZero(ScreenedAblation):
    """Zero one component of every layer.

    Attributes:
        component: the hook point, such as `mlp_out`.
    """

    table = "layer_impact"
    config = LayerZeroConfig
    component: ClassVar[str]

    def plan(self, cfg: LayerZeroConfig, context: PlanContext) -> list[Arm]:
        """Every layer."""
        zero, layers = Scale(0.0), layer_sites(cfg, context.shape)
        rows = [layer_row(cfg, self.component, layer, zero) for layer in layers]
        return [screened(Arm(context.clean, rows), cfg, context)]
