"""Ratios of two means, with the set of all ratios that the data do not rule out.

A ratio r is ruled out where the mean of numerator - r * denominator is not 0 by a cluster-robust t test (`cluster_t`). The set
is an interval as long as the denominator is clearly not 0; otherwise it is unbounded, which is what such data say: everything
outside a gap, or every number.

Reference:
    Fieller 1954, Some Problems in Interval Estimation; the error and degrees of freedom as in `cluster_t`.
"""

from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiny_ablation.stats.cluster_t import cluster_t, degrees_of_freedom, group_shares
from tiny_ablation.stats.clusters import Floats, cluster_sums


class Shape(StrEnum):
    """What the two bounds of a confidence set mean."""

    interval = "interval"  # between them
    outside = "outside"  # at most `low` or at least `high`: the denominator may be 0, and only what lies between is ruled out
    everything = "everything"  # no number is ruled out; the bounds are missing
    unknown = "unknown"  # one group: nothing can be said; the bounds are missing


class Ratios(NamedTuple):
    """One ratio of means per site and its confidence set, each (n_sites,)."""

    ratio: Floats  # NaN where the denominator is 0
    low: Floats
    high: Floats
    shape: list[Shape]

    @property
    def bounded(self) -> NDArray[np.bool_]:
        """(n_sites,) whether the set is an interval."""
        return np.array([shape is Shape.interval for shape in self.shape])

    def columns(self, low: str, high: str, shape: str) -> dict[str, Any]:
        """For a table: bounds of intervals only, so that none is read as what it is not; other sets are put into words."""
        words = [s.value for s in self.shape]
        for i, s in enumerate(self.shape):
            if s is Shape.outside:
                a, b = f"{self.low[i]:.6g}", f"{self.high[i]:.6g}"
                # A gap that only rounding leaves rules nothing out.
                words[i] = f"{Shape.outside} ({a}, {b})" if a != b else Shape.everything.value
        return {low: np.where(self.bounded, self.low, np.nan), high: np.where(self.bounded, self.high, np.nan), shape: words}

    def named(self, name: str) -> dict[str, Any]:
        """`columns`, behind the ratio itself, which is called `name`."""
        return {name: self.ratio, **self.columns(f"{name}_low", f"{name}_high", f"{name}_shape")}


def ratio_of_means(
    numerator: ArrayLike, denominator: ArrayLike, groups: ArrayLike, confidence: float = 0.95, critical: ArrayLike | None = None
) -> Ratios:
    """The mean of `numerator` over the mean of `denominator`, per site; never a mean of ratios.

    `numerator` is (n_sites, n_examples), `denominator` the same or (n_examples,) for all sites. `critical` is how many errors
    are ruled out, in place of Student's quantile; `simultaneous.critical_value` makes the sets of all sites hold at once.

    Raises:
        GuardError: a value is NaN or infinite, or the shapes do not fit.
    """
    from scipy.stats import t

    above, sizes = cluster_sums(numerator, groups)
    below = np.broadcast_to(cluster_sums(np.atleast_2d(denominator), groups).sums, above.shape)
    x, y, both = (cluster_t(sums, sizes) for sums in (above, below, above + below))
    freedom = degrees_of_freedom(group_shares(above, sizes))
    limit = t.ppf((1 + confidence) / 2, freedom) if critical is None else np.broadcast_to(critical, freedom.shape)
    covariance = (both.error**2 - x.error**2 - y.error**2) / 2
    # The set solves a r^2 - 2 b r + c <= 0.
    a, b, c = (
        first * second - limit**2 * spread
        for first, second, spread in ((y.mean, y.mean, y.error**2), (x.mean, y.mean, covariance), (x.mean, x.mean, x.error**2))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(y.mean == 0, np.nan, x.mean / y.mean)
        root = np.sqrt(np.maximum(b**2 - a * c, 0))
        low, high = np.sort([(b - root) / a, (b + root) / a], axis=0)
    shape = [_shape(*each) for each in zip(a, b**2 - a * c, freedom, strict=True)]
    bounded = np.array([s in (Shape.interval, Shape.outside) for s in shape])
    return Ratios(ratio, np.where(bounded, low, np.nan), np.where(bounded, high, np.nan), shape)


def _shape(a: float, discriminant: float, freedom: float) -> Shape:
    if np.isnan(freedom):
        return Shape.unknown
    if a > 0:
        return Shape.interval
    return Shape.outside if a < 0 and discriminant > 0 else Shape.everything
