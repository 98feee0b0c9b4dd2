"""Is an effect too small to matter? Two one-sided tests, so that "does not matter" is a finding and not a lack of one.

Null hypothesis: the mean effect is at least `margin` away from 0, on either side.

Reference:
    Schuirmann 1987, A Comparison of the Two One-Sided Tests Procedure; the error and degrees of freedom as in `cluster_t`.
"""

import numpy as np

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.clusters import Floats


def equivalence_pvalues(sums: Floats, sizes: Floats, margin: float) -> Floats:
    """(n_sites,) the p-value that the mean effect lies within the margin, the larger of two one-sided ones.

    `margin` is in the unit of the metric. NaN with one group; 0 within it and 1 outside where groups do not vary at all.

    Raises:
        GuardError: the margin is not above 0.
    """
    from scipy.stats import t

    if not margin > 0:
        raise GuardError(f"A margin of equivalence is above 0, not {margin}.")
    mean, error, freedom = cluster_t(sums, sizes)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (margin - np.abs(mean)) / error
    return np.where(np.isnan(freedom), np.nan, t.sf(distance, freedom))
