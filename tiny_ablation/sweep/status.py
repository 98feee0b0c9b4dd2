"""What has become of every cell of a sweep, read from its files; safe while the sweep runs."""

from pathlib import Path

from tiny_ablation.errors import ResultsError
from tiny_ablation.results.locks import is_locked
from tiny_ablation.results.manifest import read_manifest
from tiny_ablation.results.sweepdir import Cell, CellState, SweepDir, read_plan


def sweep_status(path: Path) -> list[CellState]:
    """The state of every cell, in the order of the plan.

    Raises:
        ResultsError: the directory is no sweep.
    """
    return [_state(SweepDir(path), cell) for cell in read_plan(path).cells]


def _state(sweep: SweepDir, cell: Cell) -> CellState:
    rundir = sweep.run(cell)
    if is_locked(rundir.path / ".lock"):
        return CellState(cell, "running")
    if not rundir.manifest.is_file():
        return CellState(cell, "partial" if (rundir.path / "partial").is_dir() else "missing")
    try:
        manifest = read_manifest(rundir.path)
    except ResultsError as error:
        return CellState(cell, "failed", str(error))
    return CellState(cell, manifest.status, manifest.error)
