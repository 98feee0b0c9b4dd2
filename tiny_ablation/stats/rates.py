"""Rates and shares: an exact interval at the effective number of examples, never of zero width.

Examples of one group depend on each other, so n of them tell as much as fewer independent ones: as many as would give the rate
its cluster-robust variance, times the square of the ratio of Student's quantiles, which pays for few groups. No site counts
for more than its own examples, nor for more than the sites of the table do on average, since the variance of a rare event is
not known from the site alone; where no site tells, a group counts as one example. The interval is conservative for rare
events: its coverage is 95 % or more.

Reference:
    Clopper & Pearson 1934, The Use of Confidence or Fiducial Limits; Korn & Graubard 1998, Confidence Intervals for
    Proportions with Small Expected Number of Positive Counts Estimated from Survey Data.
"""

import numpy as np

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.clusters import Floats, Intervals


def rate_intervals(hits: Floats, sizes: Floats, confidence: float = 0.95) -> Intervals:
    """The interval of each site's rate, within [0, 1]; NaN with one group, where nothing is known of how groups differ.

    `hits` is (n_sites, n_groups), how often it happened among the group's examples, or the sum of their shares.

    Raises:
        GuardError: a rate lies outside [0, 1].
    """
    from scipy.stats import beta

    sizes = np.broadcast_to(np.asarray(sizes, dtype=np.float64), hits.shape)
    if (hits < 0).any() or (hits > sizes * (1 + 1e-12)).any():
        raise GuardError("A rate lies between 0 and 1; these hits do not fit the sizes of their groups.")
    n = _effective(hits, sizes, confidence)
    rate = np.clip(hits.sum(1) / sizes.sum(1), 0.0, 1.0)
    events, tail = rate * n, (1 - confidence) / 2
    # The quantile of a beta distribution with parameter 0 is 0, or 1.
    low = np.where(rate > 0, beta.ppf(tail, np.where(rate > 0, events, 1), n - events + 1), 0.0)
    high = np.where(rate < 1, beta.isf(tail, events + 1, np.where(rate < 1, n - events, 1)), 1.0)
    known = np.isfinite(n)
    return Intervals(np.where(known, low, np.nan), np.where(known, high, np.nan))


def for_differences(found: Intervals, sums: Floats, sizes: Floats, confidence: float = 0.95) -> Intervals:
    """Intervals of mean differences of what happens or not: within [-1, 1], and wider where all differences are alike.

    Others may be there as often as what was never seen may happen.
    `found` are the intervals of the means, of zero width where no group differs from another; `sums` are of differences that
    are -1, 0 or 1.
    """
    rare, alike = rate_intervals(np.zeros_like(sums), sizes, confidence).high, found.low == found.high
    low, high = np.where(alike, found.low - rare, found.low), np.where(alike, found.high + rare, found.high)
    return Intervals(np.maximum(low, -1.0), np.minimum(high, 1.0))


def _effective(hits: Floats, sizes: Floats, confidence: float) -> Floats:
    """(n_sites,) how many independent examples tell as much."""
    from scipy.stats import t

    n, (rate, error, freedom) = sizes.sum(1), cluster_t(hits, sizes)
    alone = rate * (1 - rate) / n  # the variance, were examples independent
    mixed = alone > 0
    own = np.full(len(n), np.inf)
    own[mixed] = n[mixed] * alone[mixed] / np.maximum(error[mixed] ** 2, np.finfo(np.float64).tiny)
    tail = (1 - confidence) / 2
    few_groups = np.minimum(1.0, (t.isf(tail, np.maximum(n - 1, 1)) / t.isf(tail, freedom)) ** 2)
    if not mixed.any():
        return np.where(np.isfinite(freedom), (sizes > 0).sum(1), np.nan)
    table = n * alone.sum() / max((error[mixed] ** 2).sum(), np.finfo(np.float64).tiny)
    return np.minimum(np.minimum(own, table) * few_groups, n)
