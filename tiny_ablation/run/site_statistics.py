"""Intervals and tests of the effects of many sites, by the settings of the run and what kind of number the metric is.

* A rate (a metric that is 0 or 1 per example): an exact interval at the effective sample size, no test.
* Another metric that is never below 0, such as a divergence: the interval of a mean, no test. Its mean is not 0 unless nothing
  changes at all, so a test against 0 would find every site.
* A metric that is 0 or 1 with an intervention and without: the interval of a mean, wider where all examples did alike, and the
  exact test by the signs of groups.
* Any other: the interval and the test of a mean over groups of examples.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from tiny_ablation.config.schema import Fdr, RootConfig, StatsConfig
from tiny_ablation.config.seeds import generator
from tiny_ablation.metrics.registry import metric, metric_names
from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.clusters import Floats, Intervals, cluster_sums
from tiny_ablation.stats.effect_size import standardised
from tiny_ablation.stats.equivalence import equivalence_pvalues
from tiny_ablation.stats.family_wise import family_wise
from tiny_ablation.stats.fdr import LEVEL, Method, first_step, q_values
from tiny_ablation.stats.means import cluster_means, null_of
from tiny_ablation.stats.rates import for_differences, rate_intervals
from tiny_ablation.stats.ratios import Shape
from tiny_ablation.stats.selection import selected_intervals
from tiny_ablation.stats.shrinkage import shrunken
from tiny_ablation.stats.sign_flips import BY_SIGNS, sign_flip_pvalues

if TYPE_CHECKING:
    from tiny_ablation.run.prepare import PreparedRun

N_SHOWN = 10
"""How many of the strongest sites are shown: what intervals for selected sites allow for."""

NO_TEST_OF_RATES = "none: a rate is never below 0, so that its mean is not 0 is no finding"
NO_TEST = "none: the metric is never below 0, so that its mean is not 0 is no finding"


class SiteStatistics(NamedTuple):
    """What is said of one metric at each site, each (n_sites,); NaN where it does not apply."""

    low: Floats
    high: Floats
    p: Floats
    null: str
    size: Floats
    shrunken: Floats
    selected_low: Floats
    selected_high: Floats
    p_equivalent: Floats
    family_wise: Floats  # the p-value adjusted over these sites; NaN unless that is the correction asked for

    def columns(self) -> dict[str, Any]:
        """As the impact tables call them, without the corrections over the family."""
        return {
            "ci_low": self.low,
            "ci_high": self.high,
            "p_value": self.p,
            "null": self.null,
            "effect_size": self.size,
            "shrunken": self.shrunken,
            "selected_low": self.selected_low,
            "selected_high": self.selected_high,
            "p_equivalent": self.p_equivalent,
            "ci_shape": np.where(np.isnan(self.low), Shape.unknown, Shape.interval),
        }


def no_test_of(name: str) -> str | None:
    """Why the metric is not tested against 0, in words; None where it is."""
    if name not in metric_names() or not metric(name).never_negative:
        return None
    return NO_TEST_OF_RATES if metric(name).decides else NO_TEST


def of_answers(name: str) -> bool:
    """Whether the metric is 0 or 1 for an example with an intervention and without, so that its effects are -1, 0 or 1."""
    return name in metric_names() and metric(name).decides and not metric(name).never_negative


def site_statistics(
    prepared: "PreparedRun", name: str, deltas: Any, groups: Sequence[str], tested: Any, family: int
) -> SiteStatistics:
    """The statistics of one metric.

    `deltas` are effects (n_sites, n_examples), finite; `groups` the cluster of each example (n_examples,). Sites that are not
    `tested` (n_sites,), such as a run without any intervention, have an interval only. `family` tests are corrected together.
    """
    root, no_test = prepared.spec.settings.root, no_test_of(name)
    stats, (sums, sizes) = root.stats, cluster_sums(deltas, groups)
    draws = generator(root.seed, "bootstrap", name)
    missing = np.full(len(sums), np.nan)
    # One less the confidence of each site's interval, had it been chosen as one of the strongest.
    selected_level = (1 - stats.confidence) * min(1.0, N_SHOWN / len(sums))
    if no_test == NO_TEST_OF_RATES:
        p, null, shown = missing, no_test, rate_intervals(sums, sizes, stats.confidence)
        chosen = rate_intervals(sums, sizes, 1 - selected_level)
    else:
        step, n_draws = first_step(family, LEVEL, stats.fdr.value), stats.n_perm
        found = cluster_means(
            sums,
            sizes,
            rng=draws,
            confidence=stats.confidence,
            n_boot=stats.n_boot,
            n_draws=n_draws,
            step=None if no_test or n_draws else step,
        )
        p, null, shown = found.p, null_of(sums, sizes), Intervals(found.low, found.high)
        low, high = selected_intervals(sums, sizes, selected_level, rng=draws, n_boot=stats.n_boot)
        chosen = Intervals(np.minimum(low, shown.low), np.maximum(high, shown.high))  # nowhere shorter than the usual one
        if of_answers(name):
            p, null = np.where(np.isnan(p), p, sign_flip_pvalues(sums)), BY_SIGNS
            shown = for_differences(shown, sums, sizes, stats.confidence)
            chosen = for_differences(chosen, sums, sizes, 1 - selected_level)
    p = missing if no_test else np.where(tested, p, np.nan)
    adjusted = missing.copy()
    if stats.fdr is Fdr.maxt and not np.isnan(p[tested]).any() and p[tested].size:
        adjusted[tested] = family_wise(sums[tested], sizes, p[tested], max(stats.n_boot, 2000), draws)
    margin = stats.margin if name == prepared.metrics[0].name else None
    return SiteStatistics(
        *shown,
        p,
        no_test or null,
        standardised(deltas, groups),
        missing if no_test else _shrunken(sums, sizes, tested),
        *chosen,
        missing if margin is None else equivalence_pvalues(sums, sizes, margin),
        adjusted,
    )


def _shrunken(sums: Floats, sizes: Floats, tested: Any) -> Floats:
    """The sizes of the tested sites, shrunken together; the others' as they are."""
    found = cluster_t(sums, sizes)
    result = found.mean.copy()
    result[tested] = shrunken(*(part[tested] for part in found))
    return result


def baseline_intervals(root: RootConfig, columns: Mapping[str, Any], groups: Sequence[str]) -> dict[str, dict[str, float]]:
    """`interval_of_mean` of each column (n_examples,) of an un-intervened run, by its name."""
    found = {}
    for name, values in columns.items():
        rng = generator(root.seed, "bootstrap", f"baseline {name}")
        found[name] = interval_of_mean(np.asarray(values, bool) if of_answers(name) else values, groups, root.stats, rng)
    return found


def interval_of_mean(
    values: Any,
    groups: Sequence[str],
    stats: StatsConfig,
    rng: np.random.Generator,
    *,
    rate: bool = False,
    differences: bool = False,
) -> dict[str, float]:
    """`mean`, `ci_low` and `ci_high` of one finite number per example; the bounds are NaN where there is one group.

    Values are shares of something that happens or not with `rate` (as bool values always are), and differences of such shares
    with `differences`.
    """
    table = np.asarray(values)
    sums, sizes = cluster_sums(table[None].astype(np.float64), groups)
    if rate or table.dtype == bool:
        low, high = rate_intervals(sums, sizes, stats.confidence)
    else:
        _, low, high, _ = cluster_means(sums, sizes, rng=rng, confidence=stats.confidence, n_boot=stats.n_boot)
        if differences:
            low, high = for_differences(Intervals(low, high), sums, sizes, stats.confidence)
    return {"mean": float(table.mean()), "ci_low": float(low[0]), "ci_high": float(high[0])}


def corrected(impact: pd.DataFrame, method: Method) -> pd.DataFrame:
    """The table with `q_value` and `q_equivalent`, over all tests of a metric, and without `p_family`; see `stats.fdr`."""

    def over_family(p: pd.Series) -> Any:
        return q_values(p.to_numpy(dtype=np.float64), method)

    by_metric = impact.groupby("metric", sort=False)
    q = by_metric["p_value"].transform(over_family)
    return impact.assign(
        q_value=impact["p_family"].where(impact["p_family"].notna(), q),
        q_equivalent=by_metric["p_equivalent"].transform(over_family),
    ).drop(columns="p_family")
