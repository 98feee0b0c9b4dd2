"""Where a number stands in an empirical null distribution."""

import numpy as np
from numpy.typing import ArrayLike


def percentile_among(own: float, others: ArrayLike) -> float:
    """The share of `others` below `own`, equal ones counted half, times 100.

    Args:
        own: the number to place.
        others: (n,), what it is compared with.

    Returns:
        In [0, 100]; NaN where there is nothing to compare with.
    """
    null = np.asarray(others, dtype=np.float64)
    if not null.size or np.isnan(own):
        return float("nan")
    return float(100 * ((null < own).mean() + 0.5 * (null == own).mean()))
