"""Figures and page of a finished run or sweep, drawn again from its files."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiny_ablation.sweep.analysis import SweepOutcome

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import read_json, read_table
from tiny_ablation.store.manifest import DRAWN, check_files, read_manifest, write_manifest
from tiny_ablation.store.partial import clear_batches
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.rundir_guard import reopened
from tiny_ablation.store.sweepdir import SweepDir, building, is_sweep
from tiny_ablation.store.untrusted import reading


def rebuild(path: Path) -> Path:
    """The page of a run, or of a sweep with a finished run, drawn again with its figures; the manifest is renewed.

    Raises:
        ResultsError: it is neither, it has no results, or a file that the page is made of was altered since.
    """
    run = RunDir(path)
    with reading(path):
        if is_sweep(path):
            if not build_sweep(path).ok:
                raise ResultsError(f"No run of the sweep {path} has finished, so there is nothing to show yet.")
            return SweepDir(path).report
        if not run.manifest.is_file():
            raise ResultsError(f"{path} is neither a run nor a sweep: give a directory that tiny-ablate has written.")
        with run.lock(), reopened(path):
            return _rebuild_run(run)


def _rebuild_run(run: RunDir) -> Path:
    from tiny_ablation.report.figures.of_run import DRAWING

    manifest = read_manifest(run.path)
    failed = dict(manifest.extra.get("stages") or {})
    if "statistics" in failed:
        raise ResultsError(
            f"{run.path} has no statistics to draw: they failed ({failed['statistics']}). The same command with "
            f"hydra.run.dir={run.path} goes on from what was measured."
        )
    # Checksums are made anew below, so a table that was altered must not get a new one.
    problems = [each for each in check_files(run) if not each.file.startswith(DRAWN)]
    if problems:
        raise ResultsError(f"{run.path} is not as its run left it: {problems[0]}. Run again to make it anew.")
    page = draw_run(run, manifest.status)
    failed.pop(DRAWING, None)
    extra = {key: value for key, value in manifest.extra.items() if key != "stages"}
    write_manifest(
        run,
        run_id=manifest.run_id,
        status=manifest.status,
        digest=manifest.digest,
        covers=manifest.covers,
        error=manifest.error,
        extra=extra | ({"stages": failed} if failed else {}),
    )
    if manifest.status != "partial" and not failed:
        clear_batches(run.batches)
    return page


def draw_run(run: RunDir, status: str) -> Path:
    """The page of a run, drawn with its figures from its tables.

    `status` is how the run ended, since its manifest may not be written yet.
    """
    from tiny_ablation.report.figures.of_run import write_figures
    from tiny_ablation.report.run_page import write_run_report

    summary = read_json(run.summary)
    tables = [read_table(path) for path in sorted(run.metrics.glob("*_impact.parquet"))]
    figures = [write_figures(run.path, table, summary) for table in tables]
    return write_run_report(run.path, status=status, figures=figures)


def build_sweep(path: Path) -> "SweepOutcome":
    """Write the results of a sweep from the files of its runs; a second call gives the same bytes.

    Raises:
        ResultsError: it is no sweep, or its plan is damaged.
        ConfigError: the plan's `sweep` settings make no sense.
    """
    from tiny_ablation.report.sweep_page import write_sweep_report
    from tiny_ablation.sweep.analysis import aggregate_sweep, write_sweep_manifest

    with building(path):
        outcome = aggregate_sweep(path)
        if outcome.ok:
            write_sweep_report(path)
            write_sweep_manifest(outcome)
    return outcome
