"""What happens before and after the jobs of a sweep: preflight, then the results that no single run can have.

Hydra turns an exception of a callback into a warning, so both end by `SystemExit`, whose cause `cli` tells. It copies this
object to its workers, so it holds nothing.
"""

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from tiny_ablation.errors import ConfigError, TinyAblateError
from tiny_ablation.store.rundir import remove_if_empty

logger = logging.getLogger(__name__)


class SweepCallback(Callback):
    """The callback that `conf/config.yaml` names."""

    def on_run_start(self, config: Any, **_: Any) -> None:
        """Check the directory of a single run before Hydra writes there."""
        from tiny_ablation.store.rundir_guard import refuse_foreign, refuse_sweep

        with _leaving():
            if config.run.shards > 1 and "${now:" in _as_written(config.hydra.run)["dir"]:
                raise ConfigError(
                    f"run.shards={config.run.shards}: add -m, which starts the workers, or start each yourself with the same "
                    "hydra.run.dir=DIR"
                )
            _take_free_place(config, "run")
            directory = Path(config.hydra.run.dir).absolute()
            refuse_foreign(directory)
            refuse_sweep(directory)

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Check every cell, claim the directory, make ready what the jobs share."""
        with _leaving():
            _take_free_place(config, "sweep")
            try:
                _preflight(config, _directory(config))
            except BaseException:
                remove_if_empty(_directory(config), Path.cwd())
                raise

    def on_multirun_end(self, config: Any, config_name: str | None = None, **_: Any) -> None:
        """Build the cross-condition results from the files of the jobs."""
        with _leaving():
            _finish(config, config_name or "config", _directory(config))


@contextmanager
def _leaving() -> Iterator[None]:
    """Every exception as the one kind that Hydra lets out of a callback."""
    try:
        yield
    except Exception as error:
        raise SystemExit(getattr(error, "exit_code", 1)) from error


def _as_written(node: Any) -> Any:
    """A node of the config with its interpolations as they are written."""
    return OmegaConf.to_container(node, resolve=False)


def _take_free_place(config: Any, which: str) -> None:
    """Where the directory (of a `run` or `sweep`) is named by the time, make it, under a name that no other run has."""
    if "${now:" not in _as_written(config.hydra[which])["dir"]:
        return
    named = Path(config.hydra[which].dir)
    place = named
    for number in itertools.count(2):
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            place = named.with_name(f"{named.name}-{number}")
            continue
        except OSError:  # told when it is to be written
            pass
        break
    if place != named:
        config.hydra[which].dir = str(place)
        # Jobs are composed from what the command line said.
        config.hydra.overrides.hydra.append(f"hydra.{which}.dir='{place}'")


def _directory(config: Any) -> Path:
    return Path(config.hydra.sweep.dir).absolute()


def _preflight(config: Any, directory: Path) -> None:
    from tiny_ablation.models.identity import prepare
    from tiny_ablation.report.terminal import Screen
    from tiny_ablation.sweep.claim import begin, claim
    from tiny_ablation.sweep.plan import pin, plan_sweep
    from tiny_ablation.sweep.screens import is_screened, with_unions
    from tiny_ablation.tracking.mlflow_sink import ready

    subdir = _as_written(config.hydra.sweep)["subdir"]
    if config.run.shards > 1 and "hydra.job." in subdir:
        raise ConfigError(f"hydra.sweep.subdir={subdir}: workers of one run share its directory; say ${{cell:}} for its number")
    planned = plan_sweep(config)
    if swept := {"run.shards", "run.shard"} & {*planned.plan.varies}:
        raise ConfigError(f"{min(swept)} has one value: -m run.shards=4 starts four workers of each run")
    claim(directory, planned.plan)
    screen, plan = Screen(), planned.plan
    seeds = ", ".join(map(str, sorted({cell.seed for cell in plan.cells})))
    runs = f"{len(plan.cells)} runs: {', '.join(plan.conditions)}; seeds {seeds}"
    screen.start({"sweep": runs, "directory": str(directory)})
    needed = (model for spec in planned.specs for model in (*spec.models, *spec.others.values()))
    for model in {repr(each): each for each in needed}.values():
        try:  # fetched once, before several jobs ask for it
            prepare(model)
        except TinyAblateError as error:
            screen.warn(f"the runs of {model.name} will fail: {error}")
    with screen.progress("screen", sum(map(is_screened, planned.specs))) as stage:
        planned = with_unions(directory, planned, stage.advance)
    begin(directory, pin(planned), anew=not config.resume)
    if config.run.shards > 1:
        _start_workers(config, directory, planned.plan)
    _admit_hydra(directory, config)
    if str(config.hydra.launcher._target_).endswith("JoblibLauncher"):
        _watch_parent_in_workers()
    tracking: Any = OmegaConf.to_object(config.tracking)
    if problem := ready(tracking, cwd=Path(config.hydra.runtime.cwd)):
        screen.warn(problem)


def _start_workers(config: Any, directory: Path, plan: Any) -> None:
    """Let Hydra start several jobs for each cell, which share its directory."""
    from tiny_ablation.store.rundir_guard import empty
    from tiny_ablation.store.sweepdir import SweepDir

    if not config.resume:  # once, and not by each worker
        for cell in plan.cells:
            empty(SweepDir(directory).run(cell))
        config.hydra.overrides.task.append("resume=true")
    config.hydra.overrides.task.append(f"run.shard=range({config.run.shards})")


def _admit_hydra(directory: Path, config: Any) -> None:
    """Note the one file that Hydra itself is about to write into a sweep's directory."""
    from tiny_ablation.store.ledger import keeping

    text = OmegaConf.to_yaml(config)
    with keeping(directory) as ledger:
        ledger.admit(directory / "multirun.yaml", sha256(text.encode()).hexdigest())


def _watch_parent_in_workers() -> None:
    """Let each worker of joblib watch its parent from its first moment; Hydra's launcher cannot be told to."""
    from hydra_plugins.hydra_joblib_launcher import _core

    from tiny_ablation.sweep.job import die_with_parent

    launcher: Any = _core
    launcher.Parallel = partial(launcher.Parallel, initializer=die_with_parent)


def _finish(config: Any, config_name: str, directory: Path) -> None:
    from tiny_ablation.report.rebuild import build_sweep
    from tiny_ablation.report.sweep_screen import show_sweep
    from tiny_ablation.report.terminal import Screen
    from tiny_ablation.tracking.mlflow_sink import publish_sweep

    screen = Screen()
    outcome = build_sweep(directory)
    if config.sweep.confirm and _confirm(config_name, directory, screen):
        outcome = build_sweep(directory)
    tracking: Any = OmegaConf.to_object(config.tracking)
    published = publish_sweep(directory, tracking, cwd=Path(config.hydra.runtime.cwd))
    show_sweep(directory, screen)
    if published:
        screen.footer(f"Browse runs: {published.ui_command or published.url}")
    if not outcome.complete:
        raise SystemExit(1)


def _confirm(config_name: str, directory: Path, screen: Any) -> int:
    """Ablate the conserved heads as a set on every condition; returns how many runs there are."""
    from tiny_ablation.pipeline import run
    from tiny_ablation.report.terminal import Screen
    from tiny_ablation.store.rundir import RunDir
    from tiny_ablation.store.sweepdir import SweepDir, read_plan
    from tiny_ablation.sweep.confirm import confirmations
    from tiny_ablation.sweep.job import is_done, record_failure
    from tiny_ablation.sweep.plan import weights_of

    sweep = SweepDir(directory)
    planned = list(confirmations(config_name, sweep, read_plan(directory)))
    for cell, spec in planned:
        rundir = RunDir(sweep.confirm(cell))
        [weights] = weights_of([spec])
        if not weights or not is_done(rundir, spec.identity(*weights).digest):
            try:
                run(spec, rundir.path, Screen(quiet=True), replace=True)
            except TinyAblateError as error:
                record_failure(rundir, cell, error)
                screen.warn(f"confirm, {cell.condition}, seed {cell.seed}: {error}")
    if not planned:
        screen.note("Nothing to confirm: no head is conserved.")
    return len(planned)
