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


def screened(arm: Arm, cfg: Any, context: PlanContext) -> Arm:
    """The rows of a arm of single sites that screening keeps: all rows of the chosen sites.

    Args:
        arm: rows of one edit each (or of none, at a factor of 1), all of one component and positions.
        cfg: has `screen`, `screen_top` and `screen_random`.
        context: of the plan.
    """
    if not cfg.screen:
        return arm
    return keep_chosen(arm, cfg.screen_top, cfg.screen_random, context, pilot=cfg.screen_pilot, also=cfg.screen_also or ())


def keep_chosen(
    arm: Arm, n_top: int, n_random: int, context: PlanContext, *, steps: int = 0, pilot: bool = False, also: Sequence[str] = ()
) -> Arm:
    """As `screened`, with the numbers given; `steps` of the integrated form, 0 for plain gradients."""
    edit = _strongest(arm)
    sites = list(dict.fromkeys(site_of(row) for row in arm.rows if row.intervention))
    found = estimate_sites(edit, _draws(arm, edit), sites, context, n_top, n_random, steps=steps, pilot=pilot)
    found = replace(found, also=_named(also, found))
    # A row at a factor of 1 runs nothing; its key tells its site.
    named = {tuple(sorted(_place(row).items())): site_of(row) for row in arm.rows if row.intervention}
    rows = [row for row in arm.rows if named[tuple(sorted(_place(row).items()))] in found.measured]
    return replace(arm, rows=rows, estimates=found)


def estimate_sites(
    edit: Edit,
    draws: Sequence[Replacement],
    sites: Sequence[Site],
    context: PlanContext,
    n_top: int,
    n_random: int,
    *,
    steps: int = 0,
    pilot: bool = False,
) -> Estimates:
    """Estimate the mean effect at each site, and choose which to measure.

    Args:
        edit: what is done at one of the sites: its component, positions and replacement are those of all.
        draws: the replacement and its further draws, over which the estimate is the mean.
        sites: all sites.
        context: of the plan.
        n_top: how many of the strongest to measure.
        n_random: how many random ones.
        steps: of the integrated form; 0 is the gradient form.
        pilot: whether a few exact effects correct the estimates; see `pilot`.
    """
    import numpy as np

    from tiny_ablation.ablations.shared.pilot import corrected
    from tiny_ablation.engine.gradients import AttributionQuery, estimate, passes_needed

    layers = sorted({layer for layer, _ in sites})
    questions = [AttributionQuery(edit.component, r, edit.positions, steps, context.full, layers) for r in draws]
    found = np.mean([estimate(context.network, context.clean, question).numpy() for question in questions], axis=0)
    estimates = found[tuple(zip(*sites, strict=True))]
    values, how = estimates.mean(1), f"integrated, {steps} steps" if steps else "gradient"
    runs = 0.0
    if pilot and n_top < len(sites) and not context.outline:
        exact = partial(_effects, edit, draws, sites, context, questions[0].metric)
        values, order, counts = corrected(estimates, np.array([layer for layer, _ in sites]), n_top, exact)
        runs = float(counts.sum()) * len(draws) / len(context.clean)
        how += f", corrected by {np.count_nonzero(counts)} sites on up to {counts.max()} examples"
    else:
        order = sorted(range(len(sites)), key=lambda i: (-abs(values[i]), sites[i]))
    drawn = generator(context.seed, "screening", edit.component).permutation(len(sites))[:n_random]
    return Estimates(
        edit.component,
        questions[0].metric,
        how,
        sum(passes_needed(context.network, question) for question in questions),
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

    unit = lambda of: None if edit.unit is None else of  # noqa: E731
    plan = [
        Intervention((replace(edit, layer=layer, unit=unit(of), replacement=draw),))
        for layer, of in map(sites.__getitem__, which)
        for draw in draws
    ]
    effects = np.empty((len(plan), len(context.clean)))
    for found in Executor(context.network, context.clean, plan, [metric(name)], full=context.full, only=examples):
        effects[:, list(found.examples)] = (found.values[name] - found.baseline[name]).numpy()
    return effects[:, list(examples)].reshape(len(which), len(draws), -1).mean(1)


def site_names(estimates: Estimates) -> dict[Site, str]:
    """What `screen_also` calls each site: L3H1, or L3 where a layer is one."""
    whole = estimates.component in LAYER_COMPONENTS
    return {site: f"L{site[0]}" if whole else head_label(*site) for site in estimates.sites}


def _named(names: Sequence[str], estimates: Estimates) -> list[Site]:
    known = {name: site for site, name in site_names(estimates).items()}
    if wrong := [name for name in names if name not in known]:
        raise ConfigError(
            f"ablation.screen_also: {wrong[0]} is none of the {len(known)} sites of this run, which are called like "
            f"{next(iter(known))}"
        )
    return [known[name] for name in names]


def _draws(arm: Arm, edit: Edit) -> list[Replacement]:
    """The replacement of an edit of the arm, and those of the other draws of its row."""
    row = next(row for row in arm.rows if row.intervention and row.intervention.edits[0] is edit)
    return [run.edits[0].replacement for run in row.runs]


def _strongest(arm: Arm) -> Edit:
    """The edit that goes farthest from the run; gradients say most about it, since a part of it is a part of its estimate."""
    edits = [row.intervention.edits[0] for row in arm.rows if row.intervention]
    if not edits:
        raise ConfigError("ablation.screen: every factor is 1, so there is nothing to estimate or to measure")
    far = lambda edit: abs(1 - edit.replacement.factor) if isinstance(edit.replacement, Scale) else 1.0  # noqa: E731
    return max(edits, key=far)


def _place(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.key.items() if name != "scale"}
