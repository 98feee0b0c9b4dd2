"""One run, from a checked config to a finished directory: prepare, measure, confirm, tables, verify, figures, manifest.

Nothing here knows of Hydra or of sweeps. The manifest is written last: a directory without one is of a run that was killed.
"""

import shutil
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.config import schema
from tiny_ablation.config.schema import VerifyMode
from tiny_ablation.errors import Interrupted, TinyAblateError
from tiny_ablation.store.runlog import log
from tiny_ablation.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiny_ablation.aggregate.confirm import Confirmation
    from tiny_ablation.config.identity import Identity
    from tiny_ablation.engine.executor import Executor
    from tiny_ablation.report.terminal import Screen
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun
    from tiny_ablation.run.spec import RunSpec
    from tiny_ablation.store.manifest import Status
    from tiny_ablation.store.profile import Profile
    from tiny_ablation.store.rundir import RunDir

    Admit = Callable[[Identity], None]

_SITES = {"head_impact": "heads", "layer_impact": "layers", "pair_impact": "pairs", "set_impact": "sets",
          "feature_impact": "features"}  # fmt: skip


def run(
    spec: "RunSpec", directory: Path, screen: "Screen", *, replace: bool = False, admit: "Admit | None" = None
) -> None:
    """Carry one run out, into `directory`.

    Args:
        spec: what to run.
        directory: where; it may hold this run's own earlier results or finished batches.
        screen: what the user sees.
        replace: delete another run that stands there, instead of refusing.
        admit: raises what keeps a run of this identity from being measured, before anything is.

    Raises:
        TinyAblateError: see its subclasses; `Interrupted` when results up to the interruption were kept.
    """
    from tiny_ablation.store.profile import Profile
    from tiny_ablation.store.sampler import Sampler

    profile = Profile(Sampler(power=spec.settings.root.profile.power))
    with profile.sampling():
        if profile.sampler.problem:
            screen.warn(profile.sampler.problem)
        replace = replace or not spec.settings.root.resume
        _carry_out(spec, directory, screen, profile, replace=replace, admit=admit)


def _carry_out(
    spec: "RunSpec",
    directory: Path,
    screen: "Screen",
    profile: "Profile",
    *,
    replace: bool,
    admit: "Admit | None",
) -> None:
    """Prepare, measure, confirm and write; see `run`."""
    from tiny_ablation.run.measure import executors
    from tiny_ablation.run.prepare import prepare_run
    from tiny_ablation.store.rundir import RunDir
    from tiny_ablation.store.rundir_guard import ensure_vacant, refuse_foreign, refuse_sweep

    started = datetime.now(UTC)
    with profile.stage("prepare", quiet=True):  # nothing is written yet: the directory may be refused
        prepared = prepare_run(spec)
        if admit:
            admit(prepared.identity)
        profile.meter = lambda: prepared.network.tokens
    screen.start(_headline(prepared))
    refuse_foreign(directory)
    refuse_sweep(directory)
    rundir = RunDir(directory)
    with rundir.lock():
        ensure_vacant(rundir, prepared.identity, replace=replace)
        log.info(
            "run %s of %s, version %s", prepared.identity.run_id, prepared.spec.ablation.name, __version__
        )
        with profile.stage("measure"):
            work = executors(prepared)
            measured, stopped = _measure(prepared, work, rundir, screen)
        profile.count("measure", prompt_tokens=sum(executor.prompt_tokens for executor in work))
        if not measured:
            raise Interrupted("interrupted before the first batch was finished; nothing was written")
        with profile.stage("confirm"):
            confirmed, again = (None, True) if stopped else _confirm(prepared, measured, rundir, screen)
            stopped = stopped or again
        _write(prepared, rundir, measured, confirmed, started, profile, screen, stopped=stopped)
    if stopped:
        raise Interrupted(
            f"interrupted; what was finished is in {directory}; run again with hydra.run.dir={directory} to go on"
        )


def _measure(
    prepared: "PreparedRun", work: "list[Executor]", rundir: "RunDir", screen: "Screen"
) -> "tuple[list[Measured], bool]":
    from tiny_ablation.run.measure import Stopped, measure

    total = sum(len(executor.plan) * len(executor.prompts) for executor in work)
    with screen.progress(prepared.spec.ablation.name, total) as stage:
        try:
            return measure(prepared, rundir, work, stage.advance), False
        except Stopped as stop:
            return stop.measured, True


def _confirm(
    prepared: "PreparedRun", measured: "list[Measured]", rundir: "RunDir", screen: "Screen"
) -> "tuple[Confirmation | None, bool]":
    """Measure the strongest sites on the held-out split, where one is named; and whether that was interrupted."""
    from tiny_ablation.aggregate.confirm import confirm
    from tiny_ablation.run.measure import Stopped

    try:
        return confirm(prepared, measured, rundir, lambda total: screen.progress("confirm", total)), False
    except Stopped:
        return None, True


def _write(
    prepared: "PreparedRun", rundir: "RunDir", measured: "list[Measured]", confirmed: "Confirmation | None",
    started: datetime, profile: "Profile", screen: "Screen", *, stopped: bool,
) -> None:  # fmt: skip
    """Everything a run leaves behind; the manifest last."""
    from tiny_ablation.aggregate.run_summary import run_summary
    from tiny_ablation.aggregate.run_tables import run_tables
    from tiny_ablation.report.figures.files import write_figures
    from tiny_ablation.report.summary_html import write_run_report
    from tiny_ablation.store import files

    with profile.stage("statistics"):
        combined = prepared.spec.ablation.combine(prepared, measured)
        tables = run_tables(prepared, combined)
        summary = run_summary(prepared, combined, tables, confirmed.summary if confirmed else None)
    with profile.stage("tables"):
        files.write_text(rundir.config, _yaml(prepared))
        files.write_table(rundir.table(prepared.spec.table), tables.impact)
        confirm_table = {"confirm": confirmed.table} if confirmed else {}
        for name, frame in {**tables.more, **confirm_table}.items():
            files.write_table(rundir.metrics / f"{name}.parquet", frame)
        files.write_table(rundir.per_example, tables.per_example)
        files.write_json(rundir.summary, summary)
        for name, source in ((n, f) for arm in prepared.arms for n, f in arm.files.items()):
            files.write_via(rundir.path / name, partial(shutil.copyfile, source))
    with profile.stage("verify"):
        bug = None if stopped else _verify(prepared, rundir, measured, screen)
    status = "partial" if stopped else "failed" if bug else "ok"
    # A figure shows it; the stage that draws it is added at the end.
    files.write_json(rundir.profile, profile.content())
    with profile.stage("figures and report"):
        write_figures(rundir.path, tables.impact, summary)
        _write_provenance(prepared, rundir, started)
        write_run_report(rundir.path, status=status)
    _finish(prepared, rundir, summary, profile, status=status, error=bug)
    log.info("finished: %s", status)
    _show(prepared, rundir, summary, screen)
    if bug:
        raise TinyAblateError(bug)


def _finish(
    prepared: "PreparedRun",
    rundir: "RunDir",
    summary: dict[str, Any],
    profile: "Profile",
    *,
    status: "Status",
    error: str | None,
) -> None:
    """The manifest makes the run complete; after it the finished batches are not needed any more."""
    from tiny_ablation.store.files import write_json
    from tiny_ablation.store.manifest import write_manifest
    from tiny_ablation.store.partial import clear_batches

    write_json(rundir.profile, profile.content())
    write_manifest(
        rundir, run_id=prepared.identity.run_id, status=status, digest=prepared.identity.digest,
        covers=prepared.identity.covers, error=error,
        extra={"kind": prepared.spec.ablation.name, **{key: summary[key] for key in ("seed", "condition", "n_examples")}},
    )  # fmt: skip
    if status != "partial":
        clear_batches(rundir.batches)


def _verify(
    prepared: "PreparedRun", rundir: "RunDir", measured: "list[Measured]", screen: "Screen"
) -> str | None:
    """Compute a slice again; returns why the run must not be trusted, or None."""
    from tiny_ablation.store import files
    from tiny_ablation.verify.check import check, sentence

    cfg = prepared.spec.settings.root.verify
    if cfg.mode is VerifyMode.off:
        return None
    with screen.progress("verify", 1):
        found = check(prepared, measured)
    files.write_json(rundir.verify, found)
    text = sentence(found)
    if text is None:
        return None
    text = f"{text}; see {rundir.verify}"
    if found["verdict"] == "bug" and cfg.on_bug is schema.OnBug.fail:
        return f"{text}; verify.on_bug=warn lets it pass"
    screen.warn(text)
    return None


def _write_provenance(prepared: "PreparedRun", rundir: "RunDir", started: datetime) -> None:
    from tiny_ablation.config.identity import hash_json
    from tiny_ablation.models.device import describe_device
    from tiny_ablation.store import files, provenance

    covers = prepared.identity.covers
    facts = describe_device(prepared.device)
    content = provenance.collect(
        hashes={"config": hash_json(covers["config"]), "data": covers["data_hash"], "split": covers["split_hash"],
                "weights": covers["weights"]},
        device=" ".join(str(facts[key]) for key in ("name", "gpu") if key in facts),
        started=started, ended=datetime.now(UTC), threads=facts["threads"],
    )  # fmt: skip
    content["weights_origin"] = prepared.network.model.origin
    content["prompts"] = [
        {"id": t.example.id, "clean": t.clean_ids, "target": t.target_ids, "foil": t.foil_ids}
        | ({"targets": t.right_ids, "foils": t.wrong_ids} if t.example.has_sets else {})
        for t in prepared.tokens
    ]
    files.write_json(rundir.provenance, content)
    files.write_text(rundir.env, provenance.env_txt())


def _headline(prepared: "PreparedRun") -> dict[str, str]:
    root, shape = prepared.spec.settings.root, prepared.network.shape
    sites = sum(len(arm.rows) for arm in prepared.arms)
    return {
        "model": f"{root.model.name}: {shape.n_layers} layers of {shape.n_heads} heads, {root.model.weights.value} weights",
        "dataset": f"{root.dataset.name}, split {root.dataset.split.value}: {len(prepared.tokens)} examples, seed {root.seed}",
        "ablation": f"{root.ablation.kind}: {sites} interventions",
        "device": f"{prepared.device} {root.device.dtype.value}",
    }


def _show(prepared: "PreparedRun", rundir: "RunDir", summary: dict[str, Any], screen: "Screen") -> None:
    from tiny_ablation.report.evidence import sections

    screen.baseline(summary)
    screen.table(
        summary["top"], metric=summary["primary"], null=summary["null"], family_size=summary["family_size"],
        resolution=summary["resolution"], confidence=summary["confidence"],
        title=f"Strongest {_SITES.get(prepared.spec.table, 'sites')}",
    )  # fmt: skip
    screen.paragraphs("Autoencoder", summary["notes"].get("sae", {}).get("lines", []))
    if "attribution" in summary["notes"]:
        screen.receipt(summary["notes"]["attribution"])
    for section in sections(summary, None):
        screen.section(section)
    for text in summary["warnings"]:
        screen.warn(text)
    table = rundir.table(prepared.spec.table).relative_to(rundir.path)
    more = [name for name in ("artifacts/feature_panel.html", "sae") if (rundir.path / name).exists()]
    screen.files(
        rundir.path, ["report.html", *more, str(table), "metrics/per_example.parquet", "metrics/summary.json"]
    )
    screen.next_command("report", rundir.path, "--open")


def _yaml(prepared: "PreparedRun") -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(prepared.spec.settings.plain))
