"""How many standard errors an interval must reach so that those of several means hold all at once.

The largest |t| over the means is drawn by the bootstrap, which knows how they depend on each other; where the rule for means
does not bootstrap, it is Bonferroni's quantile of Student's t.

Reference:
    Romano & Wolf 2005, Exact and Approximate Stepdown Methods for Multiple Hypothesis Testing (simultaneous regions).
"""

import numpy as np

from tiny_ablation.stats.bootstrap_t import Studentised, resample_groups
from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.means import by_bootstrap


def critical_value(sums: Floats, sizes: Floats, confidence: float, *, rng: np.random.Generator, n_boot: int = 2000) -> float:
    """The number of standard errors that makes all intervals hold together with this confidence."""
    from scipy.stats import t as student

    varied = sums[np.ptp(sums / sizes, axis=1) > 0]
    freedom = cluster_t(sums, sizes).freedom.min(initial=np.inf)
    if not len(varied):
        return float(student.ppf((1 + confidence) / 2, freedom))
    bonferroni = float(student.isf((1 - confidence) / 2 / len(varied), freedom))
    if not by_bootstrap(varied, sizes):
        return bonferroni
    largest = np.zeros(n_boot)
    for _, t in Studentised.of(varied, sizes).draws(resample_groups(sums.shape[1], n_boot, rng)):
        largest = np.maximum(largest, np.abs(t).max(1))
    return float(np.quantile(largest, confidence, method="weibull"))
