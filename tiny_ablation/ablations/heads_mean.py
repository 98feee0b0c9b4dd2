"""Replace every head's output by its mean over other examples, one head at a time.

Answers: does the behaviour need what the head says about *this* prompt? Unlike zero, a mean is near what the head writes
anyway, so what every prompt shares stays; and what is constant over the reference set is hidden, so a head that adds a
constant that matters shows no effect (compare `heads_zero`). The means come from examples that are not evaluated; see
`tiny_ablation.ablations.shared.means` for the choice of `ablation.mean`.

Reference: Wang et al. 2022, "Interpretability in the wild", section 3.
"""

from dataclasses import dataclass

from tiny_ablation.ablations.shared.mean_keys import MeanAblation, MeanKeys
from tiny_ablation.ablations.shared.means import plan_means
from tiny_ablation.ablations.shared.rows import head_row
from tiny_ablation.ablations.shared.screening import ScreenedAblation, ScreenKeys, screened
from tiny_ablation.ablations.shared.sites import head_sites
from tiny_ablation.run.plan import Arm, HeadSitesConfig, PlanContext


@dataclass
class HeadsMeanConfig(ScreenKeys, MeanKeys, HeadSitesConfig):
    """`ablation` keys of heads_mean."""


class HeadsMean(ScreenedAblation, MeanAblation):
    """See the module."""

    name = "heads_mean"
    table = "head_impact"
    config = HeadsMeanConfig

    def plan(self, cfg: HeadsMeanConfig, context: PlanContext) -> list[Arm]:
        """Every (layer, head)."""
        sites = head_sites(cfg, context.shape)
        means = plan_means(cfg, context, sorted({(cfg.component, layer) for layer, _ in sites}))
        rows = [head_row(cfg, site, means.replacement) for site in sites]
        return [screened(Arm(context.clean, rows, notes=means.notes), cfg, context)]


ABLATIONS = (HeadsMean(),)
