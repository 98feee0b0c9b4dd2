"""Estimate every site from gradients, then measure the strongest ones, and a random sample, exactly.

The estimate is of first order, for the kind's own replacement: the gradient times the way from the run's value to zero, to the
mean, or to the donors' values, averaged over the draws. Kinds for which it is not defined (sets of sites, noise, patches into
runs that are changed themselves) have no key `screen`.

Estimates are wrong in some layers more than in others, so some sites are first measured on a few examples (`pilot`).

The random sample is what makes the estimate accountable: it says how well estimates follow exact effects where they were not
chosen for being large, and how many strong sites the screening may have missed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.config.seeds import generator
from tiny_ablation.document import Section
from tiny_ablation.engine.edits import Edit, Intervention, Replacement
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import LAYER_COMPONENTS
from tiny_ablation.models.labels import head_label
from tiny_ablation.run.plan import Ablation, Analysis, Arm, Estimates, PlanContext, Row, Site

if TYPE_CHECKING:
    import numpy as np

    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun


@dataclass
class ScreenKeys(AblationConfig):
    """Keys of every kind that can be screened."""

    screen: str | None = key(
        None,
        help="attribution: estimate all sites by gradients, measure only the strongest and a random sample; null: measure all",
        choices=("attribution",),
    )
    screen_top: int = key(64, help="how many of the strongest estimates are measured", least=1)
    screen_pilot: bool = key(
        True,
        help="measure eight, four and two times as many sites on a 32nd, a 16th and an 8th of the examples first, and correct "
        "the estimates by it; false: gradients alone",
    )
    screen_random: int = key(16, help="how many random sites besides, by which the estimates are judged", least=3)
    screen_also: list[str] | None = key(
        None,
        help="sites that are measured besides, such as [L3H1], or [L3] for layers; a sweep names what its other runs chose",
    )


@dataclass
class LayerScreenKeys(ScreenKeys):
    """The same for kinds whose sites are layers, of which there are fewer."""

    screen_top: int = key(8, help="how many of the strongest estimates are measured", least=1)
    screen_random: int = key(8, help="how many random layers besides, by which the estimates are judged", least=3)


class EstimatedAblation(Ablation):
    """An ablation whose sites may be chosen by estimates; where they are, it says how far these can be relied on."""

    def analyse(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> Analysis:
        """All estimates, and how they compare with exact effects."""
        from tiny_ablation.ablations.shared.agreement import analyse

        return analyse(prepared, measured)

    def sections(self, summary: Mapping[str, Any]) -> list[Section]:
        """How far estimates can be relied on."""
        from tiny_ablation.ablations.shared.agreement import sections

        return sections(summary.get("notes", {}).get("attribution"))


class ScreenedAblation(EstimatedAblation):
    """A kind of single sites whose first-order estimate is defined."""

    def random_components(self, cfg: Any, n_rest: int) -> tuple[str, ...]:
        """What the kind draws, and which sites are measured besides the strongest estimates."""
        return (*super().random_components(cfg, n_rest), *(("random sites",) if cfg.screen else ()))

    def without_screening(self, cfg: Any) -> Any:
        """Without `screen`."""
        return replace(cfg, screen=None)


def site_of(row: Row) -> Site:
    """The only site that a row writes to.

    Raises:
        ValueError: it writes to none or several.
    """
    assert row.intervention is not None
    (edit,) = row.intervention.edits
    return edit.layer, edit.unit or 0


def keep_chosen(
    arm: Arm, n_top: int, n_random: int, context: PlanContext, *, steps: int = 0, pilot: bool = False, also: Sequence[str] = ()
) -> Arm:
    """The arm with the rows of some of its sites alone: the strongest by their estimates, and random ones.

    Args:
        arm: rows of one edit each (or of none, at a factor of 1), all of one component and positions.
        n_top: how many of the strongest to keep.
        n_random: how many random ones.
        context: of the plan.
        steps: of the integrated form; 0 for plain gradients.
        pilot: whether a few exact effects correct the estimates; see `pilot`.
        also: the names of sites that are kept as well, as `site_names` has them.
    """
    run = [row for row in arm.rows if row.intervention]
    if not run:
        raise ConfigError("ablation.screen: every factor is 1, so there is nothing to estimate or to measure")
    # Of several factors the one farthest from 1: what a gradient says of a smaller change is a part of what it says of this.
    row = max(run, key=lambda row: _distance(row.runs[0].edits[0].replacement))
    edit, draws = row.runs[0].edits[0], [each.edits[0].replacement for each in row.runs]
    found = _estimated(edit, draws, list(dict.fromkeys(map(site_of, run))), context, n_top, n_random, steps, pilot)
    known = {name: site for site, name in site_names(found).items()}
    if wrong := [name for name in also if name not in known]:
        raise ConfigError(
            f"ablation.screen_also: {wrong[0]} is none of the {len(known)} sites of this run, which are called like "
            f"{next(iter(known))}"
        )
    found = replace(found, also=[known[name] for name in also])
    # A row at a factor of 1 runs nothing; its key without the factor tells its site.
    place = lambda row: frozenset(item for item in row.key.items() if item[0] != "scale")  # noqa: E731
    site_at = {place(row): site_of(row) for row in run}
    return replace(arm, rows=[row for row in arm.rows if site_at[place(row)] in found.measured], estimates=found)


def _distance(replacement: Replacement) -> float:
    """How far a replacement goes from the run, where a factor of 0 goes 1."""
    return abs(1 - replacement.factor) if isinstance(replacement, Scale) else 1.0


def _estimated(
    edit: Edit,
    draws: Sequence[Replacement],
    sites: Sequence[Site],
    context: PlanContext,
    n_top: int,
    n_random: int,
    steps: int,
    pilot: bool,
) -> Estimates:
    """The estimated mean effect at each site, and which are measured; `edit` is made at each, with the mean over the draws."""
    import numpy as np

    from tiny_ablation.ablations.shared.pilot import corrected
    from tiny_ablation.engine.gradients import AttributionQuery, estimate, passes_needed

    layers = sorted({layer for layer, _ in sites})
    queries = [AttributionQuery(edit.component, r, edit.positions, steps, context.full, layers) for r in draws]
    found = np.mean([estimate(context.network, context.clean, query).numpy() for query in queries], axis=0)
    estimates = found[tuple(zip(*sites, strict=True))]
    values, how = estimates.mean(1), f"integrated, {steps} steps" if steps else "gradient"
    runs = 0.0
    if pilot and n_top < len(sites) and not context.outline:
        exact = partial(_effects, edit, draws, sites, context, queries[0].metric)
        values, order, counts = corrected(estimates, np.array([layer for layer, _ in sites]), n_top, exact)
        runs = float(counts.sum()) * len(draws) / len(context.clean)
        how += f", corrected by {np.count_nonzero(counts)} sites on up to {counts.max()} examples"
    else:
        order = sorted(range(len(sites)), key=lambda i: (-abs(values[i]), sites[i]))
    drawn = generator(context.seed, "screening", edit.component).permutation(len(sites))[:n_random]
    return Estimates(
        edit.component,
        queries[0].metric,
        how,
        sum(passes_needed(context.network, query) for query in queries),
        sites,
        values,
        [sites[i] for i in order[:n_top]],
        [sites[i] for i in sorted(drawn.tolist())],
        edit.replacement,
        pilot_runs=runs,
    )


def _effects(
    edit: Edit,
    draws: Sequence[Replacement],
    sites: Sequence[Site],
    context: PlanContext,
    name: str,
    which: Sequence[int],
    examples: Sequence[int],
) -> "np.ndarray":
    """(n, n_examples): the exact effect of some sites on one metric, mean over the draws."""
    import numpy as np

    from tiny_ablation.engine.executor import Executor
    from tiny_ablation.metrics.registry import metric

    plan = []
    for layer, unit in (sites[i] for i in which):
        at = replace(edit, layer=layer, unit=None if edit.unit is None else unit)
        plan += [Intervention((replace(at, replacement=draw),)) for draw in draws]
    effects = np.empty((len(plan), len(context.clean)))
    for found in Executor(context.network, context.clean, plan, [metric(name)], full=context.full, only=examples):
        effects[:, list(found.examples)] = (found.values[name] - found.baseline[name]).numpy()
    return effects[:, list(examples)].reshape(len(which), len(draws), -1).mean(1)


def site_names(estimates: Estimates) -> dict[Site, str]:
    """What `screen_also` calls each site: L3H1, or L3 where a layer is one."""
    whole = estimates.component in LAYER_COMPONENTS
    return {site: f"L{site[0]}" if whole else head_label(*site) for site in estimates.sites}
