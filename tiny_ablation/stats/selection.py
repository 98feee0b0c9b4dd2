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
from tiny_ablation.stats.clusters import Floats, Intervals
from tiny_ablation.stats.means import by_bootstrap

# Where the bootstrap's t is compared with Student's: deep in the tails, and as deep as 2,000 draws tell.
_TAILS = (0.025, 0.005)


def selected_intervals(sums: Floats, sizes: Floats, level: float, *, rng: np.random.Generator, n_boot: int = 2000) -> Intervals:
    """The interval of each site, had it been one of those that were chosen.

    `level` is how often each may miss: `(1 - confidence) * n_chosen / n_sites`.
    """
    from scipy.stats import t

    mean, error, freedom = cluster_t(sums, sizes)
    half = t.isf(level / 2, freedom) * error
    stretch = np.ones((2, len(sums)))  # how many times further the tails of t reach than Student's, down and up
    if by_bootstrap(sums, sizes):
        weights = resample_groups(sums.shape[1], n_boot, rng)
        for block, draws in Studentised.of(sums, sizes).draws(weights):
            for tail in _TAILS:
                with np.errstate(invalid="ignore"):  # draws without spread are infinite
                    ends = np.quantile(draws, [tail, 1 - tail], axis=0, method="weibull") * np.array([[-1], [1]])
                found = ends / t.isf(tail, sums.shape[1] - 1)
                stretch[:, block] = np.maximum(stretch[:, block], np.where(np.isfinite(found), found, 1.0))
    low, high = stretch
    return Intervals(mean - high * half, mean + low * half)
