"""The claim of one process on a sweep's directory, from the first check to the last figure.

The system drops it when the process dies, so a crash never leaves a directory locked. It is kept in this module, since
Hydra copies callbacks to its workers and a lock cannot be copied.
"""

import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tiny_ablation.errors import BusyError, ResultsError, said_by_system
from tiny_ablation.store.ledger import keeping
from tiny_ablation.store.locks import lock_file
from tiny_ablation.store.manifest import read_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.rundir_guard import empty, occupants, refuse_foreign
from tiny_ablation.store.sweepdir import SweepDir, SweepPlan, is_sweep, read_plan, write_plan

if TYPE_CHECKING:
    from filelock import BaseFileLock

_TOLD = 5  # differences that a message lists
_PARENT = "TINY_ABLATE_SWEEP_PARENT"
_held: "dict[Path, BaseFileLock]" = {}


def claim(path: Path, plan: SweepPlan) -> None:
    """Make `path` (absolute) the directory of this plan and process; `begin` writes the plan, once its models are at hand.

    Raises:
        ResultsError: it belongs to another plan or to a single run, it or a cell's directory holds files of somebody else,
            another process works there, or it cannot be written.
    """
    from filelock import Timeout

    refuse_foreign(path, "hydra.sweep.dir")
    _refuse_strangers(path, plan)
    for place in (path / cell.dir for cell in plan.cells):
        refuse_foreign(place, "hydra.sweep.dir")
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = lock_file(path / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"Another process is running a sweep in {path}. Wait for it, stop it, or choose another directory with "
            "hydra.sweep.dir=DIR."
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from error
    _held[path] = lock
    os.environ[_PARENT] = str(os.getpid())


def begin(path: Path, plan: SweepPlan, *, anew: bool) -> None:
    """Write the plan of a claimed directory, if what is there was computed from what the plan names.

    What was computed from something else is refused, or deleted where the sweep starts `anew`. The plan has the digest of
    every cell whose model is at hand.

    Raises:
        ResultsError: weights, data, code or libraries are not those that the sweep was begun with.
    """
    there = read_plan(path) if is_sweep(path) else None
    before = there.cells if there else [None] * len(plan.cells)
    found = Counter[str]()
    for cell, old in zip(plan.cells, before, strict=True):
        unlike = [plan.unlike(cell, run.digest, run.covers) for run in occupants(SweepDir(path).run(cell), cell.digest)]
        if there and old:
            unlike.append(plan.unlike(cell, old.digest, {**there.content, **old.content}))
        found.update(list(dict.fromkeys(chain(*unlike))))
    if found and not anew:
        listed = "; ".join(f"{what} ({n} cell{'s' * (n > 1)})" for what, n in found.most_common(_TOLD))
        raise ResultsError(
            f"{path} was begun with other content than is here now: {listed}{'; ...' * (len(found) > _TOLD)}. Old and new "
            "cells must not stand in one matrix. Bring back what was there and run the same command to go on, or start anew: "
            "in another directory with hydra.sweep.dir=DIR, or in this one with resume=false, which replaces every cell."
        )
    if there and not found:  # a model that cannot be had now stays what it was
        cells = (new if new.digest else old for new, old in zip(plan.cells, there.cells, strict=True))
        plan = replace(plan, cells=tuple(cells))
    try:
        if found:
            for rundir in (RunDir(path), *(SweepDir(path).run(cell) for cell in plan.cells)):
                empty(rundir)
        with keeping(path):
            write_plan(path, plan)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ResultsError:
    said = said_by_system(error).replace("hydra.run.dir", "hydra.sweep.dir")
    return ResultsError(f"Cannot write in {path}: {said}")


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
    elif SweepDir(path).manifest.is_file():
        with suppress(ResultsError):
            if read_manifest(path).extra.get("kind") == "sweep":  # its plan was deleted because it was damaged
                return
        raise ResultsError(f"{path} holds a single run. Choose another directory for the sweep with hydra.sweep.dir=DIR.")
