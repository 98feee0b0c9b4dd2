"""What share of the clean run's advantage a patched run has, and how restoring it compares with breaking it.

With m the primary metric, `recovered` of a site is (m_a - m_corrupt) / (m_clean - m_corrupt): 1 is the clean run, 0 the corrupt
one, in both directions. Of two models on one prompt the base stands for corrupt and the tuned one for clean. It is a ratio of
means with Fieller's interval, never a mean of ratios. Where the advantage of the clean run may be 0 the interval is unbounded,
and `ci_shape` says how: there is hardly an advantage to take a share of.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tiny_ablation.ablations.patching.patch_ablation import PAIR, Ends
from tiny_ablation.run.id_columns import named
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.ratios import Ratios, ratio_of_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_TEST = "none: a share with its interval, not a test"
_MISSING = ("p_value", "p_family", "effect_size", "shrunken", "selected_low", "selected_high", "p_equivalent")


def recovered(
    prepared: PreparedRun, measured: Sequence[Measured], names: Ends = PAIR
) -> Iterator[tuple[Measured, dict[str, Any]]]:
    """For each arm in the impact table, the columns of its `recovered` rows; nothing where only one prompt ran."""
    name = prepared.metrics[0].name
    for m in measured:
        other = next((other for other in measured if other.arm.run != m.arm.run), None)
        if other is None or not m.arm.in_table:
            continue
        patched, other = aligned([m, other])
        if not len(patched.examples):
            continue
        ends = {each.arm.run: each.baseline[name] for each in (patched, other)}
        found = share_of_advantage(prepared, patched.values[name] - ends[names[0]], ends, patched.groups, names)
        columns = {
            "metric": "recovered",
            "value": found.ratio,
            "n": len(patched.examples),
            "baseline": 0.0,
            "delta": found.ratio,
            "null": NO_TEST,
            **found.columns("ci_low", "ci_high", "ci_shape"),
            **dict.fromkeys(_MISSING, np.nan),
        }
        yield m, columns


def asymmetry(prepared: PreparedRun, measured: Sequence[Measured], names: Ends = PAIR) -> pd.DataFrame | None:
    """Restoring against breaking, a row per site; None unless both directions were run.

    `restoring` is the share of the advantage that comes back when the corrupt run gets the clean value, `breaking` the share
    that is lost when the clean run gets the corrupt one. A site that is sufficient without being necessary (a backup exists)
    restores more than it breaks; `asymmetry` is restoring - breaking, with the interval of that difference.
    """
    by_run = {m.arm.run: m for m in aligned(measured) if m.arm.in_table}
    if set(by_run) != set(names) or not len(by_run[names[0]].examples):
        return None
    (low, high), metric = (by_run[each] for each in names), prepared.metrics[0].name
    ends = {run: m.baseline[metric] for run, m in by_run.items()}
    restored, broken = low.delta(metric), high.baseline[metric] - high.values[metric]
    frame = named(prepared, pd.DataFrame([dict(row.key) for row in low.arm.rows]))
    frame["metric"], frame["n"] = metric, len(low.groups)
    for name, share in (("restoring", restored), ("breaking", broken), ("asymmetry", restored - broken)):
        found = share_of_advantage(prepared, share, ends, low.groups, names)
        frame = frame.assign(**found.named(name))
    return frame


def share_of_advantage(
    prepared: PreparedRun,
    numerator: "NDArray[np.float64]",
    ends: Mapping[str, "NDArray[np.float64]"],
    groups: Sequence[str],
    names: Ends = PAIR,
    confidence: float | None = None,
) -> Ratios:
    """Means over that of the clean run's advantage, per site; `ends` has the primary metric of either un-patched run."""
    advantage = ends[names[1]] - ends[names[0]]
    return ratio_of_means(numerator, advantage, groups, confidence or prepared.spec.settings.root.stats.confidence)
