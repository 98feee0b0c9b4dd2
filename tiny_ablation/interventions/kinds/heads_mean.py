"""Replace every head's output by its mean over other examples, one head at a time.

Answers: does the behaviour need what the head says about *this* prompt? Unlike zero, a mean is near what the head writes
anyway, so what every prompt shares stays; and what is constant over the reference set is hidden, so a head that adds a
constant that matters shows no effect (compare `heads_zero`). The means come from examples that are not evaluated; see
`tiny_ablation.interventions.means` for the choice of `ablation.mean`.

Reference: Wang et al. 2022, "Interpretability in the wild", section 3.
"""

from dataclasses import dataclass

from tiny_ablation.interventions.kinds._mean import MeanKeys, MeanKind
from tiny_ablation.interventions.means import check_mean, plan_means
from tiny_ablation.interventions.plan import HeadSitesConfig, Leg, PlanContext
from tiny_ablation.interventions.rows import head_row
from tiny_ablation.interventions.screening import ScreenedKind, ScreenKeys, check_screen, screened
from tiny_ablation.interventions.sites import check_head_sites, head_sites


@dataclass
class HeadsMeanConfig(ScreenKeys, MeanKeys, HeadSitesConfig):
    """`ablation` keys of heads_mean."""


class HeadsMean(ScreenedKind, MeanKind):
    """See the module."""

    name = "heads_mean"
    table = "head_impact"
    config = HeadsMeanConfig

    def check(self, cfg: HeadsMeanConfig) -> None:
        """Refuse lists that name nothing, and unknown components, positions and means."""
        check_head_sites(cfg)
        check_mean(cfg)
        check_screen(cfg)

    def plan(self, cfg: HeadsMeanConfig, context: PlanContext) -> list[Leg]:
        """Every (layer, head)."""
        sites = head_sites(cfg, context.shape)
        means = plan_means(cfg, context, sorted({(cfg.component, layer) for layer, _ in sites}))
        rows = [head_row(cfg, site, means.replacement) for site in sites]
        return [screened(Leg(context.clean, rows, notes=means.notes), cfg, context)]


KIND = HeadsMean()
