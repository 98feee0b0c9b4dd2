"""The claim of one process on a sweep's directory, from the first check to the last figure.

The system drops it when the process dies, so a crash never leaves a directory locked. It is kept in this module, since
Hydra copies callbacks to its workers and a lock cannot be copied.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tiny_ablation.errors import BusyError, ResultsError, said_by_system
from tiny_ablation.results.manifest import read_manifest
from tiny_ablation.results.sweepdir import SweepDir, SweepPlan, is_sweep, read_plan, write_plan

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PARENT = "TINY_ABLATE_SWEEP_PARENT"
_held: "dict[Path, BaseFileLock]" = {}


def claim(path: Path, plan: SweepPlan) -> None:
    """Make `path` the directory of this plan, and of this process.

    Args:
        path: the sweep's directory, absolute.
        plan: what will run there.

    Raises:
        ResultsError: it belongs to another plan or to a single run, another process works there, or it cannot be written.
    """
    _refuse_strangers(path, plan)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _lock(path)
        write_plan(path, plan)
    except OSError as error:
        said = said_by_system(error).replace("hydra.run.dir", "hydra.sweep.dir")
        raise ResultsError(f"Cannot write in {path}: {said}") from error
    os.environ[_PARENT] = str(os.getpid())


def release(path: Path) -> None:
    """Give the claim up."""
    if lock := _held.pop(path, None):
        lock.release()
        os.environ.pop(_PARENT, None)


def claimed() -> Path | None:
    """The sweep that this process works at, if any."""
    return next(iter(_held), None)


def parent() -> int | None:
    """The process that started the sweep that this process, or the parent it inherited its environment from, works at."""
    found = os.environ.get(_PARENT, "")
    return int(found) if found.isdigit() else None


def _refuse_strangers(path: Path, plan: SweepPlan) -> None:
    if is_sweep(path):
        there = read_plan(path)
        if there.plan_digest != plan.plan_digest:
            raise ResultsError(
                f"{path} belongs to another sweep ({len(there.cells)} cells over {', '.join(there.varies) or 'nothing'}; this "
                f"one has {len(plan.cells)} over {', '.join(plan.varies) or 'nothing'}). A sweep is continued with the command "
                "that began it; for another one choose another hydra.sweep.dir=DIR."
            )
    elif SweepDir(path).manifest.is_file() and not _is_of_sweep(path):
        raise ResultsError(
            f"{path} holds a single run. Choose another directory for the sweep with hydra.sweep.dir=DIR."
        )


def _is_of_sweep(path: Path) -> bool:
    """Whether the manifest is of a sweep, whose plan was deleted because it was damaged."""
    try:
        return read_manifest(path).extra.get("kind") == "sweep"
    except ResultsError:
        return False


def _lock(path: Path) -> None:
    from filelock import FileLock, Timeout

    lock = FileLock(path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"Another process is running a sweep in {path}. Wait for it, stop it, or choose another directory with "
            "hydra.sweep.dir=DIR."
        ) from None
    _held[path] = lock
