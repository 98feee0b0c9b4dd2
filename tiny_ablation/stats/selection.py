"""Intervals for sites that were chosen because they are strongest, which the same data make look stronger than they are.

The interval of each of R chosen sites out of m is taken at 1 - R (1 - confidence) / m, so that of the intervals that are shown
the expected share that miss is at most 1 - confidence: the false coverage-statement rate. Bounds are Student's, stretched on
each side as the bootstrap asks for.

Reference:
    Benjamini & Yekutieli 2005, False Discovery Rate-Adjusted Multiple Confidence Intervals for Selected Parameters.
"""

import numpy as np

from tiny_ablation.stats.bootstrap_t import Studentised, resample_groups
from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.intervals import Intervals
from tiny_ablation.stats.means import by_bootstrap

# Where the bootstrap's t is compared with Student's: deep in the tails, and as deep as 2,000 draws tell.
_TAILS = (0.025, 0.005)


def selected_intervals(sums: Floats, sizes: Floats, level: float, *, rng: np.random.Generator, n_boot: int = 2000) -> Intervals:
    """The interval of each site, had it been one of those that were chosen.

    Args:
        sums: (n_sites, n_groups), each group's values summed.
        sizes: (n_groups,) or (n_sites, n_groups), examples per group.
        level: how often each may miss: `(1 - confidence) * n_chosen / n_sites`.
        rng: the source of draws.
        n_boot: draws.
    """
    from scipy.stats import t

    mean, error, freedom = cluster_t(sums, sizes)
    half = t.isf(level / 2, freedom) * error
    low, high = _stretch(sums, sizes, rng, n_boot)
    return Intervals(mean - high * half, mean + low * half)


def _stretch(sums: Floats, sizes: Floats, rng: np.random.Generator, n_boot: int) -> Floats:
    """(2, n_sites): how many times further the tails of t reach than Student's, down and up; at least 1."""
    from scipy.stats import t as student

    result = np.ones((2, len(sums)))
    if not by_bootstrap(sums, sizes):
        return result
    weights = resample_groups(sums.shape[1], n_boot, rng)
    for block, t in Studentised.of(sums, sizes).draws(weights):
        for tail in _TAILS:
            with np.errstate(invalid="ignore"):  # draws without spread are infinite
                ends = np.quantile(t, [tail, 1 - tail], axis=0, method="weibull") * np.array([[-1], [1]])
            found = ends / student.isf(tail, sums.shape[1] - 1)
            result[:, block] = np.maximum(result[:, block], np.where(np.isfinite(found), found, 1.0))
    return result
