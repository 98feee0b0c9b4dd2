"""What every method for intervals gives back."""

from typing import NamedTuple

from tiny_ablation.stats.clusters import Floats


class Intervals(NamedTuple):
    """One interval per site, NaN where it cannot be estimated."""

    low: Floats  # (n_sites,)
    high: Floats  # (n_sites,)
