"""P-values adjusted so that the chance of any false discovery among all sites is held down, whatever their dependence.

Null hypothesis of each: the mean effect of the site is 0. The largest |t| over sites is compared with its bootstrap
distribution; since all sites share the draws, it knows how they depend on each other. Sites are stepped down from the
strongest, so that a discovery makes the next one easier.

Reference:
    Westfall & Young 1993, Resampling-Based Multiple Testing (max-T); Romano & Wolf 2005, Exact and Approximate Stepdown
    Methods for Multiple Hypothesis Testing (bootstrap-t, algorithm 4.1).
"""

import numpy as np

from tiny_ablation.stats.bootstrap_t import Studentised, resample_groups
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.fdr import holm
from tiny_ablation.stats.means import by_bootstrap


def family_wise(sums: Floats, sizes: Floats, p: Floats, n_boot: int, rng: np.random.Generator) -> Floats:
    """(n_sites,) the adjusted p-value of every site of one family, at least its p-value `p` by `means.cluster_means`.

    Where the rule for means does not bootstrap, they are adjusted as they are (Holm 1979).
    """
    if not by_bootstrap(sums, sizes):
        return holm(p)
    sample = Studentised.of(sums, sizes)
    strength = np.abs(sample.t)
    order = np.argsort(-strength, kind="stable")
    weights = resample_groups(sums.shape[1], n_boot, rng)
    largest, counts = np.zeros(n_boot), np.empty(len(order))
    for block, t in sample.at(order).draws(weights, backwards=True):
        rest = np.maximum.accumulate(np.maximum(np.abs(t[:, ::-1]), largest[:, None]), axis=1)[:, ::-1]
        counts[block] = (rest >= strength[order][block]).sum(0)
        largest = rest[:, 0]
    adjusted = np.maximum.accumulate((1 + counts) / (1 + n_boot))
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return np.maximum(result, p)
