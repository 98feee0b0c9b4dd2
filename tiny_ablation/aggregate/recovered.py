"""What share of the clean run's advantage a patched run has, and how restoring it compares with breaking it.

With m the primary metric, `recovered` of a site is (m_a - m_corrupt) / (m_clean - m_corrupt): 1 is the clean run, 0 the corrupt
one, in both directions. It is a ratio of means with Fieller's interval, never a mean of ratios. Where the advantage of the
clean run may be 0 the interval is unbounded, and `ci_shape` says how: there is hardly an advantage to tell a share of.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tiny_ablation.run.id_columns import named
from tiny_ablation.run.measure import Measured, shared_examples
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.ratios import Ratios, ratio_of_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_TEST = "none: a share with its interval, not a test"
_NOT_SAID = (
    "p_value",
    "p_family",
    "effect_size",
    "shrunken",
    "selected_low",
    "selected_high",
    "p_equivalent",
)


@dataclass(frozen=True)
class _Ends:
    """The un-patched runs of both prompts of each pair.

    Attributes:
        examples: (n,) those that were finished in all arms.
        clean: (n,) the primary metric.
        corrupt: (n,) the same.
    """

    examples: "NDArray[np.int64]"
    clean: "NDArray[np.float64]"
    corrupt: "NDArray[np.float64]"


def recovered(
    prepared: PreparedRun, measured: Sequence[Measured]
) -> Iterator[tuple[Measured, dict[str, Any]]]:
    """For each arm that stands in the table, the columns of its `recovered` rows; nothing where only one prompt ran."""
    for m in measured:
        ends = _ends(prepared, [m, *(other for other in measured if other.arm.run != m.arm.run)][:2])
        if ends is None or not m.arm.in_table:
            continue
        found = _ratios(prepared, _values(prepared, m, ends) - ends.corrupt, ends)
        yield m, {
            "metric": "recovered", "value": found.ratio, "n": len(ends.examples), "baseline": 0.0, "delta": found.ratio,
            "null": NO_TEST, **found.columns("ci_low", "ci_high", "ci_shape"), **dict.fromkeys(_NOT_SAID, np.nan),
        }  # fmt: skip


def asymmetry(prepared: PreparedRun, measured: Sequence[Measured]) -> pd.DataFrame | None:
    """Restoring against breaking, a row per site; None unless both directions were run.

    `restoring` is the share of the advantage that comes back when the corrupt run gets the clean value, `breaking` the share
    that is lost when the clean run gets the corrupt one. A site that is sufficient without being necessary (a backup exists)
    restores more than it breaks; `asymmetry` is restoring - breaking, with the interval of that difference.
    """
    by_run = {m.arm.run: m for m in measured if m.arm.in_table}
    ends = _ends(prepared, measured)
    if ends is None or set(by_run) != {"clean", "corrupt"}:
        return None
    restored = _values(prepared, by_run["corrupt"], ends) - ends.corrupt
    broken = ends.clean - _values(prepared, by_run["clean"], ends)
    frame = pd.DataFrame([dict(row.key) for row in by_run["corrupt"].arm.rows])
    named(prepared, frame)
    frame["metric"], frame["n"] = prepared.metrics[0].name, len(ends.examples)
    for name, share in (("restoring", restored), ("breaking", broken), ("asymmetry", restored - broken)):
        found = _ratios(prepared, share, ends)
        frame = frame.assign(
            **{name: found.ratio}, **found.columns(*(f"{name}_{end}" for end in ("low", "high", "shape")))
        )
    return frame


def _ends(prepared: PreparedRun, measured: Sequence[Measured]) -> _Ends | None:
    by_run = {m.arm.run: m for m in reversed(measured)}
    if set(by_run) != {"clean", "corrupt"}:
        return None
    common = shared_examples(measured)
    if not len(common):
        return None
    name = prepared.metrics[0].name
    at = {run: m.baseline[name][np.searchsorted(m.examples, common)] for run, m in by_run.items()}
    return _Ends(common, at["clean"], at["corrupt"])


def _values(prepared: PreparedRun, measured: Measured, ends: _Ends) -> "NDArray[np.float64]":
    """(n_rows, n) the primary metric of the patched runs."""
    return measured.values[prepared.metrics[0].name][:, np.searchsorted(measured.examples, ends.examples)]


def _ratios(prepared: PreparedRun, numerator: "NDArray[np.float64]", ends: _Ends) -> Ratios:
    groups = [prepared.tokens[i].example.group for i in ends.examples]
    return ratio_of_means(
        numerator, ends.clean - ends.corrupt, groups, prepared.spec.settings.root.stats.confidence
    )
