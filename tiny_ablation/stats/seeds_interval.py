"""The mean over seeds and its Student-t interval."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.clusters import Floats


class MeanInterval(NamedTuple):
    """A mean over seeds; the bounds are NaN where they cannot be estimated."""

    mean: float
    low: float
    high: float
    n: int  # seeds


def student_interval(values: ArrayLike, confidence: float) -> MeanInterval:
    """The mean of `values` with its Student-t interval.

    Args:
        values: (n_seeds,), one finite number per seed.
        confidence: such as 0.95.

    Returns:
        Bounds are NaN for one seed, and when all values are equal: seeds that change nothing are no
        replicates, and a width of zero would pass for certainty.

    Raises:
        GuardError: there is no value, or one is NaN or infinite.
    """
    from scipy.stats import t

    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise GuardError("A mean over seeds needs one finite value per seed.")
    n, mean = len(numbers), float(numbers.mean())
    if n == 1 or np.ptp(numbers) == 0:
        return MeanInterval(mean, float("nan"), float("nan"), n)
    half = float(t.ppf((1 + confidence) / 2, n - 1) * numbers.std(ddof=1) / np.sqrt(n))
    return MeanInterval(mean, mean - half, mean + half, n)


def student_intervals(values: ArrayLike, confidence: float) -> tuple[Floats, Floats, Floats]:
    """`student_interval` of many sites at once.

    Args:
        values: (n_seeds, n_sites); a site with a NaN gets NaN.
        confidence: such as 0.95.

    Returns:
        Means and lower and upper bounds, each (n_sites,); bounds are NaN as in `student_interval`.
    """
    from scipy.stats import t

    table = np.asarray(values, dtype=np.float64)
    n, means = len(table), table.mean(0)
    if n == 1:
        return means, np.full_like(means, np.nan), np.full_like(means, np.nan)
    half = t.ppf((1 + confidence) / 2, n - 1) * table.std(0, ddof=1) / np.sqrt(n)
    half[np.ptp(table, axis=0) == 0] = np.nan
    return means, means - half, means + half
