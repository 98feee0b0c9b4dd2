"""One run, from a checked config to a finished directory: prepare, measure, confirm, statistics, verify, figures, manifest.

Nothing here knows of Hydra or of sweeps. What was measured is written before anything else is tried. Each later stage may fail
alone: the rest is done, the manifest says what failed and why, and the same command goes on from the batches that are kept.
The manifest is written last: a directory without one is of a run that was killed.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tiny_ablation.config.identity import Identity
from tiny_ablation.config.schema import OnBug, VerifyMode
from tiny_ablation.engine.executor import Executor
from tiny_ablation.errors import Interrupted, TinyAblateError, UserError, said, user_message
from tiny_ablation.report.run_screen import headline, show_run
from tiny_ablation.report.terminal import Screen
from tiny_ablation.run.confirm import Confirmation, confirm
from tiny_ablation.run.measure import Measured, Stopped, batches_of, executors, measure, total
from tiny_ablation.run.origin import write_origin
from tiny_ablation.run.prepare import PreparedRun, prepare_run
from tiny_ablation.run.readouts import readout_tables
from tiny_ablation.run.spec import RunSpec
from tiny_ablation.run.summary import run_summary
from tiny_ablation.run.tables import example_table, run_tables
from tiny_ablation.run.workers import working
from tiny_ablation.store.files import write_json, write_table, write_via
from tiny_ablation.store.ledger import keeping
from tiny_ablation.store.manifest import Status, write_manifest
from tiny_ablation.store.partial import clear_batches
from tiny_ablation.store.profile import Profile, Sampler
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.rundir_guard import ensure_vacant, refuse_foreign, refuse_sweep
from tiny_ablation.store.runlog import log
from tiny_ablation.verify.check import attempt, sentence
from tiny_ablation.version import __version__

Admit = Callable[[Identity], None]


@dataclass
class Stages:
    """Stages that follow the measurement, each of which may fail alone."""

    profile: Profile  # each is a stage of it
    warn: Callable[[str], None]  # tells the user of one that failed
    # why, for each that failed, in the order in which they did
    failed: dict[str, TinyAblateError] = field(default_factory=dict)

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """Within: an error ends this stage, is told and written down, and the run goes on behind it."""
        with self.profile.stage(name):
            try:
                yield
            except Interrupted:
                raise
            except Exception as error:
                told = user_message(error)
                log.error("%s failed: %s", name, error, exc_info=told is None)
                self.failed[name] = told or TinyAblateError(said(error))
                self.warn(f"{name} failed: {self.failed[name]}")


def run(spec: RunSpec, directory: Path, screen: Screen, *, replace: bool = False, admit: Admit | None = None) -> bool:
    """Carry one run out, into `directory`, or help to, where `run.shards` is above 1; whether this process ended the run.

    The directory may hold this run's own earlier results or finished batches; `replace` deletes another run that stands there,
    instead of refusing. `admit` raises what keeps a run of this identity from being measured, before anything is.

    Raises:
        TinyAblateError: see its subclasses; `Interrupted` when results up to the interruption were kept.
    """
    replace = replace or not spec.settings.root.resume
    if replace and spec.settings.root.run.shards > 1:
        raise UserError("resume=false: workers of one run would delete each other's batches; give them a new directory")
    profile = Profile(Sampler(power=spec.settings.root.profile.power))
    with profile.sampling():
        if profile.sampler.problem:
            screen.warn(profile.sampler.problem)
        return _carry_out(spec, directory, screen, profile, replace=replace, admit=admit)


def _carry_out(spec: RunSpec, directory: Path, screen: Screen, profile: Profile, *, replace: bool, admit: Admit | None) -> bool:
    """Prepare, measure and what follows; see `run`."""
    started = datetime.now(UTC)
    with profile.stage("prepare", quiet=True):  # nothing is written yet: the directory may be refused
        prepared = prepare_run(spec)
        if admit:
            admit(prepared.identity)
        profile.meter = lambda: sum(network.tokens for network in prepared.networks)
    screen.start(headline(prepared))
    refuse_foreign(directory)
    refuse_sweep(directory)
    rundir = RunDir(directory)
    with profile.stage("measure", quiet=True):
        work = executors(prepared)
    with ExitStack() as stack:
        if spec.settings.root.run.shards > 1 and not stack.enter_context(
            _among_workers(prepared, rundir, work, profile, screen)
        ):
            return False
        stack.enter_context(rundir.lock())
        ensure_vacant(rundir, prepared.identity, replace=replace)
        log.info("run %s of %s, version %s", prepared.identity.run_id, prepared.spec.ablation.name, __version__)
        with profile.stage("measure"), screen.progress(prepared.spec.ablation.name, total(work)) as stage:
            try:
                measured, stopped = measure(prepared, rundir, work, stage.advance), False
            except Stopped as stop:
                measured, stopped = stop.measured, True
        if stopped and measured:
            screen.warn(
                "interrupted; what was finished is kept and is now being made into tables and pages; Ctrl-C again skips them"
            )
        profile.count("measure", prompt_tokens=sum(executor.prompt_tokens for executor in work))
        if not measured:
            raise Interrupted(
                f"interrupted before the first batch of examples (of {len(batches_of(work))}) was finished, so nothing "
                "is kept; a smaller device.batch_tokens makes more batches"
            )
        stopped = _finish(prepared, rundir, measured, started, profile, screen, stopped=stopped)
    if stopped:
        raise Interrupted(
            f"interrupted; what was finished is in {directory}; run again with hydra.run.dir={directory} to go on"
        )
    return True


@contextmanager
def _among_workers(
    prepared: PreparedRun, rundir: RunDir, work: list[Executor], profile: Profile, screen: Screen
) -> Iterator[bool]:
    """Measure what no other worker does; within: whether the rest is up to this one."""
    with ExitStack() as stack, keeping(rundir.path):
        ensure_vacant(rundir, prepared.identity, replace=False)
        try:
            with profile.stage("measure"), screen.progress(prepared.spec.ablation.name, total(work)) as stage:
                last = stack.enter_context(working(prepared, rundir, work, stage.advance))
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; finished batches are kept in {rundir.path}, and the same command goes on"
            ) from None
        yield last


def _finish(
    prepared: PreparedRun,
    rundir: RunDir,
    measured: list[Measured],
    started: datetime,
    profile: Profile,
    screen: Screen,
    *,
    stopped: bool,
) -> bool:
    """Everything that a run leaves behind, the manifest last; returns whether it was stopped."""
    from tiny_ablation.report.figures.of_run import DRAWING
    from tiny_ablation.report.rebuild import draw_run

    stages = Stages(profile, screen.warn)
    confirmed = summary = bug = None
    with profile.stage("tables"):
        combined = prepared.spec.ablation.combine(prepared, measured)
        _write_measured(prepared, rundir, combined, started)
    if not stopped:
        with stages.trying("confirm"):
            try:
                confirmed = confirm(prepared, combined, rundir, lambda n: screen.progress("confirm", n))
            except Stopped:
                stopped = True
    with stages.trying("statistics"):
        summary = _write_statistics(prepared, rundir, combined, confirmed)
    if summary is not None:
        with stages.trying("read-outs"):
            for name, frame in readout_tables(prepared, combined, summary["top"]).items():
                write_table(rundir.metrics / f"{name}.parquet", frame)
    if not stopped:
        with stages.trying("verify"):
            bug = _verify(prepared, rundir, measured, screen)
    error = _error(rundir, bug, stages.failed)
    status = "partial" if stopped else "failed" if error else "ok"
    write_json(rundir.profile, profile.content())  # a figure shows it; the stage that draws it is added at the end
    if summary is not None:
        with stages.trying(DRAWING):
            draw_run(rundir, status)
    _write_manifest(prepared, rundir, len(combined[0].examples), profile, stages.failed, status=status, error=error)
    log.info("finished: %s", status)
    if summary is not None:
        show_run(prepared, rundir, summary, screen)
    if error and not stopped:
        raise error
    return stopped


def _write_measured(prepared: PreparedRun, rundir: RunDir, measured: Sequence[Measured], started: datetime) -> None:
    """What no later stage can be had without: every value of every example, and where it comes from."""
    write_table(rundir.per_example, example_table(prepared, measured))
    for name, source in ((n, f) for arm in prepared.arms for n, f in arm.files.items()):
        write_via(rundir.path / name, partial(shutil.copyfile, source))
    write_origin(prepared, rundir, started)


def _write_statistics(
    prepared: PreparedRun, rundir: RunDir, measured: Sequence[Measured], confirmed: Confirmation | None
) -> dict[str, Any]:
    """The tables and the summary; returns the summary."""
    tables = run_tables(prepared, measured)
    summary = run_summary(prepared, measured, tables, confirmed.summary if confirmed else None)
    write_table(rundir.table(prepared.spec.table), tables.impact)
    for name, frame in {**tables.more, **({"confirm": confirmed.table} if confirmed else {})}.items():
        write_table(rundir.metrics / f"{name}.parquet", frame)
    write_json(rundir.summary, summary)
    return summary


def _verify(prepared: PreparedRun, rundir: RunDir, measured: list[Measured], screen: Screen) -> str | None:
    """Compute a slice again; returns why the run must not be trusted, or None."""
    cfg = prepared.spec.settings.root.verify
    if cfg.mode is VerifyMode.off:
        return None
    with screen.progress("verify", 1):
        found, failure = attempt(prepared, measured)
    write_json(rundir.verify, found)
    if failure is not None:
        raise failure
    text = sentence(found)
    if text is None:
        return None
    text = f"{text}; see {rundir.verify}"
    if found["verdict"] == "bug" and cfg.on_bug is OnBug.fail:
        return f"{text}; verify.on_bug=warn lets it pass"
    screen.warn(text)
    return None


def _error(rundir: RunDir, bug: str | None, failed: Mapping[str, TinyAblateError]) -> TinyAblateError | None:
    """Why a run counts as failed: a result is wrong or missing, not only a picture of it."""
    if bug:
        return TinyAblateError(bug)
    for stage in ("statistics", "confirm"):
        if stage in failed:
            kind = UserError if isinstance(failed[stage], UserError) else TinyAblateError
            return kind(
                f"{stage} failed: {failed[stage]}. What was measured is in {rundir.per_example}; the same command in the same "
                "directory goes on from there"
            )
    return None


def _write_manifest(
    prepared: PreparedRun,
    rundir: RunDir,
    n_examples: int,
    profile: Profile,
    failed: Mapping[str, TinyAblateError],
    *,
    status: Status,
    error: TinyAblateError | None,
) -> None:
    """The manifest makes the run complete; finished batches are kept as long as something is left to be done with them."""
    write_json(rundir.profile, profile.content())
    extra = {
        "kind": prepared.spec.ablation.name,
        "seed": prepared.spec.settings.root.seed,
        "condition": prepared.spec.condition,
        "n_examples": n_examples,
    }
    write_manifest(
        rundir,
        run_id=prepared.identity.run_id,
        status=status,
        digest=prepared.identity.digest,
        covers=prepared.identity.covers,
        error=str(error) if error else None,
        extra=extra | ({"stages": {stage: str(why) for stage, why in failed.items()}} if failed else {}),
    )
    if status != "partial" and not failed:
        clear_batches(rundir.batches)
