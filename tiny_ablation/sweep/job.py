"""One job of a sweep: which cell it is, whether it is done already, and what is left behind when it fails.

A job learns the plan from `sweep.json` in the sweep's directory, not from its environment, so it may run in another process
or on another machine that shares the directory.
"""

import multiprocessing
import os
import threading
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from tiny_ablation.config.identity import Identity
from tiny_ablation.config.settings import Settings
from tiny_ablation.errors import BusyError, ResultsError, user_message
from tiny_ablation.store.ledger import read_ledger
from tiny_ablation.store.manifest import check_files, read_manifest, write_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.rundir_guard import occupants, refuse_foreign
from tiny_ablation.store.runlog import log
from tiny_ablation.store.sweepdir import Cell, SweepDir, SweepPlan, read_plan
from tiny_ablation.sweep.claim import parent
from tiny_ablation.sweep.plan import adapt

_WATCH_SECONDS = 1.0


def find_cell(sweep_dir: Path, number: int) -> tuple[SweepPlan, Cell]:
    """The plan, and the cell of job `number`.

    Raises:
        ResultsError: the sweep has no plan, or no such cell.
    """
    file = SweepDir(sweep_dir).plan
    stat = file.stat() if file.is_file() else None
    plan = _plan_once(sweep_dir, stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    for cell in plan.cells:
        if cell.job == number:
            return plan, cell
    raise ResultsError(f"{sweep_dir} plans {len(plan.cells)} cells, and job {number} is none of them. Start the sweep anew.")


@lru_cache(maxsize=1)
def _plan_once(path: Path, _stat: object) -> SweepPlan:
    """The plan, read once by the many jobs of a process."""
    return read_plan(path)


def settings_of(cfg: Any, plan: SweepPlan, cell: Cell) -> Settings:
    """The settings of a cell, from the config that Hydra composed for its job; workers take the GPUs in turn."""
    gpu = None if os.getpid() == parent() else cell.job
    return adapt(cfg, condition=cell.condition, models=plan.models, gpu=gpu, also=cell.also)


def is_done(rundir: RunDir, digest: str) -> bool:
    """Whether the finished run `digest` stands in the directory, every file as it was written; costs milliseconds."""
    if not digest or not rundir.manifest.is_file():
        return False
    try:
        manifest = read_manifest(rundir.path)
        whole = manifest.status == "ok" and manifest.digest == digest and not manifest.undone
        return whole and not check_files(rundir)
    except ResultsError:  # damaged, so it is computed again
        return False


def admit(plan: SweepPlan, cell: Cell, run: Identity) -> None:
    """Refuse a run that is not the one that was planned: weights, data or libraries changed while the sweep ran.

    Raises:
        ResultsError: it is another.
    """
    if not cell.digest:
        raise ResultsError(
            "the model could not be had when the sweep was planned; run the sweep's command again now that it can"
        )
    if found := plan.unlike(cell, run.digest, run.covers):
        raise ResultsError(
            f"what the sweep is computed from has changed since it was planned ({'; '.join(found)}), so this run is not made: "
            "its numbers would not go with the others. Run the sweep's command again for the ways on"
        )


def record_failure(rundir: RunDir, cell: Cell, error: BaseException, *, others: bool = False) -> None:
    """Write the failure of a job into its manifest, unless the run has done so itself.

    Nothing is written into a directory that another process is at work in, or that holds another run or files of somebody else.
    `others`: other workers may have finished the run meanwhile, which then counts as it is.
    """
    error = user_message(error) or error
    text = str(error) or type(error).__name__
    with suppress(ResultsError):
        if read_manifest(rundir.path).error == text:
            return
    if isinstance(error, BusyError) or any(occupants(rundir, cell.digest)):
        return
    try:
        if read_ledger(rundir.path) is None:
            refuse_foreign(rundir.path, "hydra.sweep.dir")
        with rundir.lock():
            if others and is_done(rundir, cell.digest):
                return
            extra = {"condition": cell.condition, "seed": cell.seed}
            write_manifest(rundir, run_id="", status="failed", digest="", covers={}, error=text, extra=extra)
    except ResultsError as cannot:  # files of somebody else must not be touched
        log.error("not written down: %s", cannot)


def die_with_parent() -> None:
    """End this worker process when the process that started the sweep is gone, whatever killed it.

    A worker of a killed parent would otherwise compute on, unseen, and hold the directories that a rerun needs. Ending at
    any moment is safe: every file is written whole or not at all. A worker of joblib whose parent was killed while it
    started ends here. Does nothing in the parent itself, or where the parent is not this process's own (another machine, a
    scheduler).
    """
    pid = parent()
    if pid in (None, os.getpid()) or getattr(die_with_parent, "watching", False):
        return
    if os.getppid() != pid:
        if multiprocessing.current_process().name.startswith("Loky"):
            os._exit(1)
        return
    setattr(die_with_parent, "watching", True)  # noqa: B010 - one thread a process is enough

    def watch() -> None:
        while os.getppid() == pid:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()
