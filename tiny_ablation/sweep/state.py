"""What became of the cells of a sweep, by what stands in their directories."""

from pathlib import Path

from tiny_ablation.errors import TinyAblateError
from tiny_ablation.store.claims import somebody_works
from tiny_ablation.store.locks import is_locked
from tiny_ablation.store.manifest import Manifest, read_manifest
from tiny_ablation.store.rundir_guard import occupants
from tiny_ablation.store.sweepdir import UNLIKE, Cell, CellState, SweepDir, SweepPlan, read_plan


def sweep_status(path: Path) -> list[CellState]:
    """The state of every cell, in the order of the plan.

    Raises:
        ResultsError: the directory is no sweep.
    """
    plan = read_plan(path)
    return [_status(SweepDir(path), plan, cell) for cell in plan.cells]


def _status(sweep: SweepDir, plan: SweepPlan, cell: Cell) -> CellState:
    """As `cell_state`, of a sweep that may be under way: who works there, and which batches were left, counts too."""
    rundir = sweep.run(cell)
    if is_locked(rundir.path / ".lock") or somebody_works(rundir.claims):
        return CellState(cell, "running")
    for other in occupants(rundir, cell.digest):
        if found := plan.unlike(cell, other.digest, other.covers):
            return CellState(cell, "failed", UNLIKE.format("; ".join(found)))
    state, _ = cell_state(sweep, plan, cell)
    return CellState(cell, "partial") if state.state == "missing" and rundir.batches.is_dir() else state


def cell_state(sweep: SweepDir, plan: SweepPlan, cell: Cell) -> tuple[CellState, Manifest | None]:
    """The state of a cell by the manifest of its run, and this manifest; None where there is none that can be read."""
    rundir = sweep.run(cell)
    if not rundir.manifest.is_file():
        return CellState(cell, "missing"), None
    try:
        manifest = read_manifest(rundir.path)
    except TinyAblateError as error:
        return CellState(cell, "failed", str(error)), None
    run = (manifest.run_id, manifest.digest)
    if found := plan.unlike(cell, manifest.digest, manifest.covers):
        return CellState(cell, "failed", UNLIKE.format("; ".join(found)), *run), manifest
    return CellState(cell, manifest.status, manifest.error or manifest.undone, *run), manifest
