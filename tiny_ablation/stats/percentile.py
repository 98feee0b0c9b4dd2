"""The percentile of a number in an empirical null distribution."""

import numpy as np
from numpy.typing import ArrayLike


def percentile_among(own: float, others: ArrayLike) -> float:
    """The share of `others` (n,) below `own`, equal ones counted half, times 100; NaN where there is none of either."""
    null = np.asarray(others, dtype=np.float64)
    if not null.size or np.isnan(own):
        return float("nan")
    return float(100 * ((null < own).mean() + 0.5 * (null == own).mean()))
