"""Estimate every site from gradients, then measure the strongest ones, and a random sample, exactly.

The random sample is what makes the estimate accountable: it says how well estimates follow exact effects where they were not
chosen for being large, and how many strong sites the screening may have missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.seeds import generator
from tiny_ablation.engine.edits import Edit, PositionSpec
from tiny_ablation.errors import ConfigError
from tiny_ablation.interventions.plan import Leg, PlanContext, Row
from tiny_ablation.interventions.replacements import Patch, Scale

if TYPE_CHECKING:
    import numpy as np

Site = tuple[int, int]  # (layer, unit), unit 0 where the whole component is one


@dataclass(frozen=True)
class Estimates:
    """What gradients say about every site.

    Attributes:
        component: where the sites are.
        metric: the metric whose change is estimated.
        how: `gradient`, or `integrated` with its steps.
        passes: backward passes over each example that it took.
        sites: all sites.
        values: (n_sites,) the estimated effect, mean over the examples.
        top: the sites with the largest estimates, largest first.
        sample: sites drawn at random from all of them, whatever their estimate.
        replacement: the replacement that was estimated; rows with it are what estimates are held against.
    """

    component: str
    metric: str
    how: str
    passes: int
    sites: Sequence[Site]
    values: "np.ndarray"
    top: Sequence[Site]
    sample: Sequence[Site]
    replacement: Any


def check_screen(cfg: Any) -> None:
    """Refuse a screening that does not exist or measures nothing.

    Raises:
        ConfigError: with the key.
    """
    if cfg.screen not in (None, "attribution"):
        raise ConfigError(
            f"ablation.screen={cfg.screen}: choose attribution, or null for measuring every site"
        )
    if cfg.screen:
        check_counts(cfg.screen_top, cfg.screen_random, "ablation.screen_top", "ablation.screen_random")


def check_counts(top: int, random: int, top_key: str, random_key: str) -> None:
    """Refuse numbers of sites that leave nothing to measure, or too few to judge estimates by.

    Raises:
        ConfigError: with the key.
    """
    if top < 1:
        raise ConfigError(f"{top_key}={top}: at least one site has to be measured")
    if random < 3:
        raise ConfigError(
            f"{random_key}={random}: estimates are judged on a random sample of at least 3 sites"
        )


def site_of(row: Row) -> Site:
    """The only site that a row writes to.

    Raises:
        ValueError: it writes to none or several.
    """
    assert row.intervention is not None
    (edit,) = row.intervention.edits
    return edit.layer, edit.unit or 0


def screened(leg: Leg, cfg: Any, context: PlanContext) -> Leg:
    """The rows of a leg of single sites that screening keeps: all rows of the chosen sites.

    Args:
        leg: rows of one edit each (or of none, at a factor of 1), all of one component and positions.
        cfg: has `screen`, `screen_top` and `screen_random`.
        context: of the plan.
    """
    if not cfg.screen:
        return leg
    return keep_chosen(leg, cfg.screen_top, cfg.screen_random, context)


def keep_chosen(leg: Leg, n_top: int, n_random: int, context: PlanContext, *, steps: int = 0) -> Leg:
    """As `screened`, with the numbers given; `steps` of the integrated form, 0 for plain gradients."""
    edit = _strongest(leg)
    sites = list(dict.fromkeys(site_of(row) for row in leg.rows if row.intervention))
    found = estimate_sites(
        edit.component, edit.positions, edit.replacement, sites, context, n_top, n_random, steps=steps
    )
    keep = {*found.top, *found.sample}
    # A row at a factor of 1 runs nothing; its key tells its site.
    named = {tuple(sorted(_place(row).items())): site_of(row) for row in leg.rows if row.intervention}
    rows = [row for row in leg.rows if named[tuple(sorted(_place(row).items()))] in keep]
    return replace(leg, rows=rows, estimates=found)


def estimate_sites(
    component: str, positions: PositionSpec, replacement: Any, sites: Sequence[Site], context: PlanContext,
    n_top: int, n_random: int, *, steps: int = 0,
) -> Estimates:  # fmt: skip
    """Estimate the mean effect of `replacement` at each site, and choose which to measure."""
    from tiny_ablation.engine.gradients import Question, estimate, passes_needed

    sources = replacement.sources if isinstance(replacement, Patch) else None
    question = Question(component, sources, positions, steps, context.full)
    # A factor f goes the part 1 - f of the way to zero.
    part = 1 - replacement.factor if isinstance(replacement, Scale) else 1.0
    means = part * estimate(context.network, context.clean, question).mean(-1).numpy()
    values = means[tuple(zip(*sites, strict=True))]
    order = sorted(range(len(sites)), key=lambda i: (-abs(values[i]), sites[i]))
    drawn = generator(context.seed, "screening", component).permutation(len(sites))[:n_random]
    return Estimates(
        component, question.metric, f"integrated, {steps} steps" if steps else "gradient",
        passes_needed(context.network, question), sites, values,
        [sites[i] for i in order[:n_top]], [sites[i] for i in sorted(drawn.tolist())], replacement,
    )  # fmt: skip


def _strongest(leg: Leg) -> Edit:
    """The edit that goes farthest from the run; gradients say most about it, since a part of it is a part of its estimate."""
    edits = [row.intervention.edits[0] for row in leg.rows if row.intervention]
    if not edits:
        raise ConfigError("ablation.screen: every factor is 1, so there is nothing to estimate or to measure")
    far = lambda edit: abs(1 - edit.replacement.factor) if isinstance(edit.replacement, Scale) else 1.0  # noqa: E731
    return max(edits, key=far)


def _place(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.key.items() if name != "scale"}
