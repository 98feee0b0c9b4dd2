"""What share of the clean run's advantage a patched run has, and how restoring it compares with breaking it.

With m the primary metric, `recovered` of a site is (m_a - m_corrupt) / (m_clean - m_corrupt): 1 is the clean run, 0 the corrupt
one, in both directions. It is a ratio of means with a bootstrap interval, never a mean of ratios, and missing where the
interval of the denominator holds 0: then there is no advantage of which a share could be told.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tiny_ablation.config.seeds import generator
from tiny_ablation.run.id_columns import named
from tiny_ablation.run.measure import Measured, shared_examples
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.bootstrap import Ratios, ratio_of_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_TEST = "none: a share with its interval, not a test"


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
        found = _ratios(prepared, f"recovered {m.arm.run}", _values(prepared, m, ends) - ends.corrupt, ends)
        yield m, {
            "metric": "recovered", "value": found.ratio, "n": len(ends.examples), "baseline": 0.0, "delta": found.ratio,
            "ci_low": found.low, "ci_high": found.high, "p_value": np.nan, "q_value": np.nan, "null": NO_TEST,
            "effect_size": np.nan,
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
        found = _ratios(prepared, "asymmetry", share, ends)
        frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = found
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


def _ratios(prepared: PreparedRun, label: str, numerator: "NDArray[np.float64]", ends: _Ends) -> Ratios:
    root = prepared.spec.settings.root
    groups = [prepared.tokens[i].example.group for i in ends.examples]
    draws = generator(root.seed, "bootstrap", label)
    advantage = ends.clean - ends.corrupt
    return ratio_of_means(numerator, advantage, groups, root.stats.n_boot, root.stats.confidence, draws)
