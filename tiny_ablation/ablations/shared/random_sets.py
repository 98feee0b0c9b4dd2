"""Where a named set stands among random sets of the same size and layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.stats.percentile import percentile_among


def control_columns(sets: Measured, measured: Sequence[Measured], metric: str) -> dict[str, Any]:
    """For each named set its heads, and how its effect compares with that of its random sets; each (n_sets,).

    `percentile` is the share of random sets whose effect is below that of the set, equal ones counted half, times 100; so 0 and
    100 are both out of the ordinary. It is missing where there are no random sets, or none was finished.

    Args:
        sets: the arm of the named sets.
        measured: all arms; those with `controls_of` hold the random sets.
        metric: which effects.
    """
    random = {m.arm.controls_of: m for m in measured if m.arm.controls_of}
    found = [_compare(sets, i, random.get(str(row.key["set"])), metric) for i, row in enumerate(sets.arm.rows)]
    return {
        "heads": [row.sites for row in sets.arm.rows],
        "control_mean": [mean for mean, _ in found],
        "percentile": [percentile for _, percentile in found],
    }


def _compare(sets: Measured, row: int, random: Measured | None, metric: str) -> tuple[float, float]:
    """(mean effect of the random sets, percentile), over the examples that both finished."""
    if random is None:
        return np.nan, np.nan
    sets, random = aligned([sets, random])
    if not len(sets.examples):
        return np.nan, np.nan
    others = random.mean_delta(metric)
    return float(others.mean()), percentile_among(sets.mean_delta(metric)[row], others)
