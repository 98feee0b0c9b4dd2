"""Many tests at once: which discoveries can be believed, over a declared family.

`bh` (Benjamini & Hochberg 1995) and `by` (Benjamini & Yekutieli 2001) give q-values: the smallest false discovery rate at which
a test would be called a discovery. The first holds for independent tests and for those that depend on each other positively,
the second under any dependence. For the family-wise error see `family_wise`.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from tiny_ablation.stats.clusters import Floats

Method = Literal["bh", "by", "maxt"]
LEVEL = 0.05
"""Up to this q-value a test is called a discovery."""


def q_values(p: ArrayLike, method: Method = "bh") -> Floats:
    """The q-value (adjusted p-value) of each test of one family; a NaN is no test, stays NaN and does not count.

    `maxt` takes the bound for any family-wise error (Holm 1979), for tests that have no joint draws.
    """
    from scipy.stats import false_discovery_control

    values = np.asarray(p, dtype=np.float64)
    result = np.full(values.shape, np.nan)
    tested = ~np.isnan(values)
    if tested.any():
        own = values[tested]
        result[tested] = holm(own) if method == "maxt" else false_discovery_control(own, method=method)
    return result


def holm(p: Floats) -> Floats:
    """(n,) p-values adjusted for the chance of any false discovery, under any dependence (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(adjusted)
    result[order] = np.minimum(1.0, adjusted)
    return result


def first_step(family_size: int, level: float, method: Method = "bh") -> float:
    """What a p-value must not exceed to be a discovery all by itself, when no other test of the family helps it."""
    penalty = float(np.sum(1 / np.arange(1, family_size + 1))) if method == "by" else 1.0
    return level / (max(1, family_size) * penalty)
