"""What has become of every cell of a sweep, read from its files; safe while the sweep runs."""

from pathlib import Path

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.locks import is_locked
from tiny_ablation.store.manifest import read_manifest
from tiny_ablation.store.rundir_guard import occupants
from tiny_ablation.store.sweepdir import UNLIKE, Cell, CellState, SweepDir, SweepPlan, read_plan


def sweep_status(path: Path) -> list[CellState]:
    """The state of every cell, in the order of the plan.

    Raises:
        ResultsError: the directory is no sweep.
    """
    plan = read_plan(path)
    return [_state(SweepDir(path), plan, cell) for cell in plan.cells]


def _state(sweep: SweepDir, plan: SweepPlan, cell: Cell) -> CellState:
    rundir = sweep.run(cell)
    if is_locked(rundir.path / ".lock"):
        return CellState(cell, "running")
    for other in occupants(rundir, cell.digest):
        if found := plan.unlike(cell, other.digest, other.covers):
            return CellState(cell, "failed", UNLIKE.format("; ".join(found)))
    if not rundir.manifest.is_file():
        return CellState(cell, "partial" if rundir.batches.is_dir() else "missing")
    try:
        manifest = read_manifest(rundir.path)
    except ResultsError as error:
        return CellState(cell, "failed", str(error))
    return CellState(cell, manifest.status, manifest.error or manifest.undone)
