"""Means over the examples of several seeds: pooled, and clustered by the groups that seeds share.

Another seed draws other examples of the same wordings. Its runs are more examples and no replicates of a measurement: an
interval from the spread of their means knows nothing of the wordings, and covers the less the more seeds there are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.config.seeds import generator
from tiny_ablation.metrics.registry import metric, metric_names
from tiny_ablation.run.site_statistics import of_answers
from tiny_ablation.stats.clusters import Intervals
from tiny_ablation.stats.means import cluster_means
from tiny_ablation.stats.rates import for_differences, rate_intervals

_RATES = ("accuracy", "preference")  # 0 or 1 per example, beside the metrics that are


def pooled_intervals(name: str, sums: Any, sizes: Any, confidence: float, *, effects: bool = False) -> Intervals:
    """The interval of each mean of a metric over pooled examples; rates have exact ones.

    `sums` and `sizes` are (n_means, n_groups): the values of the group's examples of all seeds, and how many those are.
    `effects` are negative where answers are lost.
    """
    differences = effects and of_answers(name)
    is_rate = name in _RATES or (name in metric_names() and metric(name).decides)
    if is_rate and not differences:
        return rate_intervals(sums, sizes, confidence)
    found = cluster_means(sums, sizes, rng=generator(0, "sweep", "pooled", name), confidence=confidence)
    intervals = Intervals(found.low, found.high)
    return for_differences(intervals, sums, sizes, confidence) if differences else intervals


def pooled_column(name: str, column: str, tables: Sequence[pd.DataFrame], confidence: float) -> Intervals | None:
    """The interval of a column of the seeds' `groups.parquet`, such as `effect/logit_diff`; None where one lacks it."""
    if not tables or any(column not in table for table in tables):
        return None
    groups = np.concatenate([table["group"].to_numpy() for table in tables])
    n = np.concatenate([table["n"].to_numpy(dtype=np.float64) for table in tables])
    values = np.concatenate([table[column].to_numpy(dtype=np.float64) for table in tables])
    known = np.isfinite(values)
    _, group = np.unique(groups[known], return_inverse=True)
    sums, sizes = (np.bincount(group, weights)[None] for weights in ((values * n)[known], n[known]))
    return pooled_intervals(name, sums, sizes, confidence, effects=column.startswith("effect"))
