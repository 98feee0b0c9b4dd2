"""False discoveries among many sites: q-values over a declared family, and whether they can be had at all."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from tiny_ablation.stats.clusters import Floats

Method = Literal["bh", "by"]


def q_values(p: ArrayLike, method: Method = "bh") -> Floats:
    """The q-value (adjusted p-value) of each test of one family.

    Args:
        p: (n,), the family's p-values in [0, 1]; a NaN is no test, stays NaN and does not count.
        method: `bh` (Benjamini & Hochberg 1995: independent or positively dependent tests) or `by` (Benjamini
            & Yekutieli 2001: any dependence).

    Returns:
        (n,): the smallest false discovery rate at which each test would be called a discovery.
    """
    from scipy.stats import false_discovery_control

    values = np.asarray(p, dtype=np.float64)
    result = np.full(values.shape, np.nan)
    tested = ~np.isnan(values)
    if tested.any():
        result[tested] = false_discovery_control(values[tested], method=method)
    return result


def can_resolve(family_size: int, resolution: float, alpha: float, method: Method = "bh") -> bool:
    """Whether a lone true effect could pass the procedure's first step at level `alpha`.

    Args:
        family_size: tests in the family.
        resolution: the smallest p-value that the test can give (`signflip.resolution`).
        alpha: the false discovery rate asked for.
        method: as in `q_values`.

    Returns:
        False when no p-value can be small enough; p-values should then not be printed.
    """
    if family_size < 1:
        return False
    # One part in 10**12, so that 1/20 is not kept from 0.05 by rounding.
    return resolution <= first_step(family_size, alpha, method) * (1 + 1e-12)


def first_step(family_size: int, alpha: float, method: Method = "bh") -> float:
    """What a lone smallest p-value of the family must not exceed to be called a discovery at level `alpha`."""
    penalty = float(np.sum(1 / np.arange(1, family_size + 1))) if method == "by" else 1.0
    return alpha / (family_size * penalty)
