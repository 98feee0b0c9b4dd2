"""The Hydra task, and the one failure policy; what a run does stands in `pipeline`.

The task never raises: an exception inside a job would stop Hydra from calling the post-sweep callback, and its text would
be buried under Hydra's own. What happened to a single run is kept in `outcome` and told by `cli`; what happened to a job of a
sweep stands in the job's own directory.
"""

import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hydra

from tiny_ablation.ablations.registry import register_schemas, run_spec
from tiny_ablation.config import schema
from tiny_ablation.config.hydra_fit import cell_number
from tiny_ablation.config.schema import TrackingBackend
from tiny_ablation.config.settings import to_settings
from tiny_ablation.errors import Interrupted, ResultsError, TinyAblateError, user_message
from tiny_ablation.paths import conf_dir
from tiny_ablation.store.rundir import remove_if_empty
from tiny_ablation.store.runlog import log
from tiny_ablation.sweep.workers import register_resolver

schema.register()
register_schemas()
register_resolver()


@dataclass
class Outcome:
    """How the single run of this process ended."""

    error: Exception | None = None


outcome = Outcome()


def start() -> None:
    """Let Hydra run what the command line asks for.

    Raises:
        Exception: what went wrong, in words for people where it is a `TinyAblateError`.
    """
    from tiny_ablation.sweep.claim import claimed, release

    outcome.error = None
    try:
        hydra_main()
    except KeyboardInterrupt:
        if sweep := claimed():
            raise Interrupted(f"interrupted; {_go_on(sweep)}") from None
        raise
    except Exception as error:
        if (sweep := claimed()) and _is_one_of(error, "TerminatedWorkerError", "BrokenProcessPool"):
            raise TinyAblateError(
                f"a worker process was killed, by the system if memory ran out; {_go_on(sweep)}, "
                "and with hydra.launcher.n_jobs=1 if memory was short"
            ) from error
        if (sweep := claimed()) and _is_one_of(error, "TimeoutError"):  # hydra.launcher.timeout
            raise TinyAblateError(f"a worker process did not answer in time and was ended; {_go_on(sweep)}") from error
        # What joblib's worker processes share.
        of_workers = any("loky" in Path(frame.filename).parts for frame in traceback.extract_tb(error.__traceback__))
        if (sweep := claimed()) and isinstance(error, OSError) and of_workers:
            raise ResultsError(
                f"worker processes have no room for their locks, which stand in /dev/shm ({error.strerror}); {_go_on(sweep)}, "
                "once there is room, or with hydra/launcher=basic, which has no workers"
            ) from error
        raise
    finally:
        if sweep := claimed():
            release(sweep)
    if outcome.error:
        raise outcome.error


def _go_on(sweep: Path) -> str:
    return f"finished cells are kept: run the same command with hydra.sweep.dir={sweep} to go on"


def _is_one_of(error: Exception, *names: str) -> bool:
    """Whether it is an error of joblib's (its classes are not imported for this, since most sweeps have none)."""
    return bool({*names} & {cls.__name__ for cls in type(error).__mro__})


@hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")
def hydra_main(cfg: Any) -> None:
    """One job."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    job = HydraConfig.get()
    directory, cwd = Path(job.runtime.output_dir), Path(job.runtime.cwd)
    try:
        if job.mode is RunMode.MULTIRUN:
            _run_cell(cfg, cwd / job.sweep.dir, directory, cell_number(job.job.num, cfg))
        else:
            _run_single(cfg, directory, cwd)
    finally:
        remove_if_empty(directory, cwd)


def _run_single(cfg: Any, directory: Path, cwd: Path) -> None:
    from tiny_ablation.pipeline import run
    from tiny_ablation.report.terminal import Screen

    screen = Screen()
    try:
        spec = run_spec(to_settings(cfg))
        tracking = spec.settings.root.tracking
        if not run(spec, directory, screen):
            screen.note("All batches are measured; another worker ends the run.")
        elif tracking.backend is not TrackingBackend.off:
            from tiny_ablation.tracking.mlflow_sink import publish

            with screen.progress("publish", 1):
                published = publish(directory, tracking, cwd=cwd)
            if published:
                screen.footer(f"Browse runs: {published.ui_command or published.url}")
    except Exception as error:  # told by cli, after Hydra has returned
        if user_message(error) is None:
            log.exception("failed")
        outcome.error = error


def _run_cell(cfg: Any, sweep_dir: Path, directory: Path, number: int) -> None:
    """One job of a sweep; its failure is written down and costs no other job."""
    from tiny_ablation.report.terminal import Screen
    from tiny_ablation.store.rundir import RunDir
    from tiny_ablation.sweep import job

    job.die_with_parent()
    plan, cell = job.find_cell(sweep_dir, number)
    started, rundir, screen = time.monotonic(), RunDir(directory), Screen(quiet=True)
    status = "failed"
    try:
        if cfg.resume and job.is_done(rundir, cell.digest):
            status = "done before"
        else:
            from tiny_ablation.pipeline import run  # torch comes with it

            spec = run_spec(job.settings_of(cfg, plan, cell))
            ended = run(spec, directory, screen, admit=partial(job.admit, plan, cell))
            status = "ok" if ended else "helped"
    except Interrupted as error:
        raise KeyboardInterrupt(str(error)) from None
    except Exception as error:
        log.error("failed: %s", error, exc_info=user_message(error) is None)
        job.record_failure(rundir, cell, error, others=cfg.run.shards > 1)
    screen.cell(cell.job, len(plan.cells), cell.condition, cell.seed, status, time.monotonic() - started)
