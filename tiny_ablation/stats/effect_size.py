"""How large an effect is beside how much it varies between groups of examples."""

import numpy as np
from numpy.typing import ArrayLike

from tiny_ablation.stats.clusters import Floats, cluster_sums

# A spread this small beside the mean is that of equal numbers, up to rounding.
_NO_SPREAD = 1e-12


def standardised(deltas: ArrayLike, groups: ArrayLike) -> Floats:
    """The mean over groups of each group's mean effect, in standard deviations of these means.

    Args:
        deltas: (n_sites, n_examples), effects, finite.
        groups: (n_examples,), labels of the groups.

    Returns:
        (n_sites,); 1 means that a typical group is one standard deviation away from no effect. NaN where there is one group or
        all have the same effect.

    Reference:
        Cohen 1988, Statistical Power Analysis, section 2.2 (d of one sample), with groups for units.
    """
    sums, sizes = cluster_sums(deltas, groups)
    means = sums / sizes
    if means.shape[1] < 2:
        return np.full(len(means), np.nan)
    mean, spread = means.mean(1), means.std(1, ddof=1)
    known = spread > _NO_SPREAD * np.abs(mean)
    return np.where(known, mean / np.where(known, spread, 1.0), np.nan)
