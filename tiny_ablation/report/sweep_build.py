"""Everything that a sweep's directory gets after its runs: cross-condition results, figures, the page, the manifest."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiny_ablation.sweep.analysis import SweepOutcome


def build_sweep(path: Path) -> "SweepOutcome":
    """Write the results of a sweep from the files of its runs; a second call gives the same bytes.

    Args:
        path: the directory that holds `sweep.json`.

    Raises:
        ResultsError: it is no sweep, or its plan is damaged.
        ConfigError: the plan's `sweep` settings make no sense.
    """
    from tiny_ablation.report.sweep_page import write_sweep_report
    from tiny_ablation.store.sweepdir import building
    from tiny_ablation.sweep.analysis import aggregate_sweep, write_sweep_manifest

    with building(path):
        outcome = aggregate_sweep(path)
        if outcome.ok:
            write_sweep_report(path)
            write_sweep_manifest(outcome)
    return outcome
