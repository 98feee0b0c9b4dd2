"""Intervals for means and for ratios of means, from a bootstrap over groups of examples.

The method is the bootstrap-t over whole groups with a cluster-robust standard error: it covers better than
the percentile and BCa intervals when groups are few, unequal or skewed (measured in
`tests/stats/test_bootstrap.py`). A site that it cannot serve gets the cluster-robust Student-t interval
instead: fewer than five groups, or so few groups with any effect that many draws hold none of them. With one
group there is no interval. Bounds are not clipped to the range of the metric.

All sites share the draws. Memory is about `8 * n_boot * (n_groups + 3000)` bytes.

Reference:
    Davison & Hinkley 1997, Bootstrap Methods and their Application, 2.4 and 5.2 (bootstrap-t); Cameron,
    Gelbach & Miller 2008, Bootstrap-Based Improvements for Inference with Clustered Errors (clusters).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.bootstrap_t import resample_groups as resample_groups
from tiny_ablation.stats.clusters import Floats, cluster_sums

# Below this there are so few distinct draws that the quantiles of t are mostly chance.
_MIN_GROUPS = 5
_SITES_AT_ONCE = 500
# A draw whose standard error is this small beside the sample's own is a draw of equal groups, up to rounding.
_NO_SPREAD = 1e-6


class Intervals(NamedTuple):
    """One interval per site, NaN where it cannot be estimated."""

    low: Floats  # (n_sites,)
    high: Floats  # (n_sites,)


class Ratios(NamedTuple):
    """One ratio of means per site with its interval, NaN where it cannot be estimated."""

    ratio: Floats  # (n_sites,)
    low: Floats  # (n_sites,)
    high: Floats  # (n_sites,)


def cluster_bootstrap_means(
    values: ArrayLike, groups: ArrayLike, n_boot: int, confidence: float, rng: np.random.Generator
) -> Intervals:
    """The interval of each site's mean over examples.

    Args:
        values: (n_sites, n_examples), finite.
        groups: (n_examples,), labels of the groups that are drawn, with replacement, as many as there are.
        n_boot: draws; 1000 or more.
        confidence: such as 0.95.
        rng: the source of the draws.

    Returns:
        Intervals of shape (n_sites,); NaN when there is only one group.

    Raises:
        GuardError: a value is NaN or infinite, or the shapes do not fit.
    """
    sums, sizes = cluster_sums(values, groups)
    return _intervals(sums, np.broadcast_to(sizes, sums.shape), n_boot, confidence, rng)


def ratio_of_means(
    numerator: ArrayLike,
    denominator: ArrayLike,
    groups: ArrayLike,
    n_boot: int,
    confidence: float,
    rng: np.random.Generator,
) -> Ratios:
    """The mean of `numerator` over the mean of `denominator`, per site; never a mean of ratios.

    Args:
        numerator: (n_sites, n_examples), finite.
        denominator: (n_sites, n_examples), or (n_examples,) for the same at all sites; finite.
        groups: (n_examples,), as in `cluster_bootstrap_means`.
        n_boot: draws; 1000 or more.
        confidence: such as 0.95.
        rng: the source of the draws.

    Returns:
        Ratios of shape (n_sites,); all NaN where the interval of the mean denominator holds 0 or is unknown.

    Raises:
        GuardError: a value is NaN or infinite, or the shapes do not fit.
    """
    table = np.asarray(numerator, dtype=np.float64)
    below = np.broadcast_to(np.asarray(denominator, dtype=np.float64), table.shape)
    above_sums, sizes = cluster_sums(table, groups)
    below_sums, _ = cluster_sums(below, groups)
    # The same draws for both: the check of the denominator is about the resamples that the ratio uses.
    seed = int(rng.integers(2**63))
    draws = [np.random.default_rng(seed) for _ in range(2)]
    known = _intervals(below_sums, np.broadcast_to(sizes, below_sums.shape), n_boot, confidence, draws[0])
    usable = (known.low > 0) | (known.high < 0)
    ratio, low, high = np.full((3, len(table)), np.nan)
    if usable.any():
        ratio[usable] = above_sums[usable].sum(1) / below_sums[usable].sum(1)
        found = _intervals(above_sums[usable], below_sums[usable], n_boot, confidence, draws[1])
        low[usable], high[usable] = found
    return Ratios(ratio, low, high)


def _intervals(
    above: Floats, below: Floats, n_boot: int, confidence: float, rng: np.random.Generator
) -> Intervals:
    """Intervals of sum(above) / sum(below); both (n_sites, n_groups)."""
    if not 0 < confidence < 1 or n_boot < 1:
        raise GuardError(f"No interval has confidence {confidence} from {n_boot} draws.")
    n_sites, n_groups = above.shape
    if n_groups == 1:
        return Intervals(np.full(n_sites, np.nan), np.full(n_sites, np.nan))
    totals = below.sum(1)
    estimate = above.sum(1) / totals
    residuals = above - estimate[:, None] * below
    errors = np.sqrt(n_groups / (n_groups - 1) * (residuals**2).sum(1)) / np.abs(totals)
    tails = _student_tails(n_sites, n_groups, confidence)
    if n_groups >= _MIN_GROUPS:
        weights = resample_groups(n_groups, n_boot, rng)
        for start in range(0, n_sites, _SITES_AT_ONCE):
            chunk = slice(start, start + _SITES_AT_ONCE)
            found = _bootstrap_tails(weights, residuals[chunk], below[chunk], errors[chunk], confidence)
            usable = np.isfinite(found).all(0)
            tails[:, chunk][:, usable] = found[:, usable]
    return Intervals(estimate - tails[1] * errors, estimate - tails[0] * errors)


def _student_tails(n_sites: int, n_groups: int, confidence: float) -> Floats:
    """The lower and upper quantile of Student's t for every site, (2, n_sites)."""
    from scipy.stats import t

    upper = float(t.ppf((1 + confidence) / 2, n_groups - 1))
    return np.repeat([[-upper], [upper]], n_sites, axis=1)


def _bootstrap_tails(
    weights: Floats, residuals: Floats, below: Floats, errors: Floats, confidence: float
) -> Floats:
    """The lower and upper quantile of t over the draws, (2, n_sites); infinite or NaN where there is none."""
    n_groups = weights.shape[1]
    totals = weights @ below.T  # (n_boot, n_sites)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (weights @ residuals.T) / totals
        squares = weights @ (residuals**2).T - 2 * shift * (weights @ (residuals * below).T)
        squares += shift**2 * (weights @ (below**2).T)
        spread = np.sqrt(n_groups / (n_groups - 1) * np.maximum(squares, 0)) / np.abs(totals)
        spread[spread <= _NO_SPREAD * errors] = 0
        shift[np.abs(shift) <= _NO_SPREAD * errors] = 0
        # A draw without spread is infinitely far from the estimate, unless it hits it.
        t = np.where(shift == 0, 0, shift / spread)
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        return np.quantile(t, [tail, 1 - tail], axis=0, method="weibull")
