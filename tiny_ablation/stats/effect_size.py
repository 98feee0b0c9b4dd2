"""How large an effect is beside how much it varies between groups of examples.

Of means of groups: the more examples a group has, the less its mean varies and the larger the effect size of the same effect.
"""

import numpy as np
from numpy.typing import ArrayLike

from tiny_ablation.stats.clusters import Floats, cluster_sums

# A spread this small beside the mean is that of equal numbers, up to rounding.
_NO_SPREAD = 1e-12


def standardised(deltas: ArrayLike, groups: ArrayLike) -> Floats:
    """The mean over groups of each group's mean effect, in standard deviations of these means, corrected for few groups.

    (n_sites,) from finite effects (n_sites, n_examples); 1 means that a typical group is one standard deviation away from no
    effect. NaN where there is one group or all have the same effect.

    Reference:
        Cohen 1988, Statistical Power Analysis, section 2.2 (d of one sample), with groups for units; Hedges 1981, Distribution
        Theory for Glass's Estimator of Effect Size (the factor that makes it unbiased: without it d is a quarter too large for
        five groups).
    """
    from scipy.special import gammaln

    sums, sizes = cluster_sums(deltas, groups)
    means = sums / sizes
    if means.shape[1] < 2:
        return np.full(len(means), np.nan)
    mean, spread = means.mean(1), means.std(1, ddof=1)
    known = spread > _NO_SPREAD * np.abs(mean)
    half = (means.shape[1] - 1) / 2
    unbiased = np.exp(gammaln(half) - gammaln(half - 0.5)) / np.sqrt(half) if half > 0.5 else 1.0
    return np.where(known, unbiased * mean / np.where(known, spread, 1.0), np.nan)
