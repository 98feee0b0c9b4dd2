"""Each stage behind the measurement may fail alone: what was measured stands, and the rest can be made up for to the byte."""

import json
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tiny_ablation.cli import main
from tiny_ablation.store.manifest import read_manifest

RUN = [
    "model=toy",
    "tracking=off",
    "dataset.relations=null",
    "dataset.n_examples=8",
    "device.threads=1",
    "stats.n_boot=200",
    "stats.n_perm=200",
    "ablation.scales=[0.0]",
    "verify.n_sites=1",
    "verify.n_examples=1",
    "hydra.run.dir=run",
]
CONFIRM = ["dataset.split=dev", "stats.confirm=test", "stats.confirm_examples=6"]
SAVE = "tiny_ablation.store.partial.PartialStore.save"  # each batch that is measured
# Where each stage begins, and what the run then says and ends with.
STAGES = {
    "confirm": ("tiny_ablation.pipeline.confirm", 1, "failed"),
    "statistics": ("tiny_ablation.pipeline.run_tables", 1, "failed"),
    "verify": ("tiny_ablation.verify.check.check", 0, "ok"),
    "figures and report": ("tiny_ablation.report.figures.of_run.write_figures", 0, "ok"),
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tiny-ablate"])
    return lambda *args: main([*RUN, *args])


def content(directory=Path("run")):
    """The bytes of every file that defines the result, by path."""
    manifest = read_manifest(directory)
    return {name: (directory / name).read_bytes() for name in (*manifest.files, "manifest.json")}


@contextmanager
def failing(monkeypatch, place):
    def fail(*_args, **_how):
        raise RuntimeError("something else broke")

    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        yield


@pytest.fixture
def undisturbed(run):
    assert run(*CONFIRM) == 0
    found = content()
    assert not Path("run/partial").exists()
    for path in sorted(Path("run").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_fails_alone_and_the_same_command_does_the_rest(run, undisturbed, monkeypatch, capsys, stage):
    place, code, status = STAGES[stage]
    with failing(monkeypatch, place):
        assert run(*CONFIRM) == code
    said = capsys.readouterr().err
    assert f"{stage} failed: RuntimeError: something else broke" in said
    assert "Traceback" not in said
    manifest = read_manifest(Path("run"))
    assert (manifest.status, list(manifest.extra["stages"])) == (status, [stage])
    assert "something else broke" in manifest.undone
    left = content()
    assert left["metrics/per_example.parquet"] == undisturbed["metrics/per_example.parquet"]
    if stage not in ("statistics", "confirm"):
        assert left["metrics/summary.json"] == undisturbed["metrics/summary.json"]
    assert list(Path("run/partial").rglob("batch_*"))  # so that nothing is measured twice

    # Confirming measures anew what it had not measured; everything else goes on from what is kept.
    with failing(monkeypatch, SAVE) if stage != "confirm" else nullcontext():
        assert run(*CONFIRM) == 0
    assert content() == undisturbed
    assert read_manifest(Path("run")).undone is None
    assert not Path("run/partial").exists()


def test_figures_are_drawn_later_without_the_model(run, undisturbed, monkeypatch, capsys):
    with failing(monkeypatch, "tiny_ablation.report.figures.of_run.write_figures"):
        assert run(*CONFIRM) == 0
    assert not Path("run/report.html").exists()
    with failing(monkeypatch, "tiny_ablation.models.loader.load_model"):
        assert main(["report", "run"]) == 0
    assert content() == undisturbed
    assert Path("run/report.html").is_file()
    assert not Path("run/partial").exists()


def test_without_statistics_there_is_nothing_to_draw(run, monkeypatch, capsys):
    with failing(monkeypatch, STAGES["statistics"][0]):
        assert run() == 1
    assert "the same command in the same directory goes on from there" in capsys.readouterr().err
    assert main(["report", "run"]) == 2
    assert "something else broke" in capsys.readouterr().err


def test_a_verification_that_cannot_run_is_a_verdict(run, monkeypatch, capsys):
    from tiny_ablation.engine.bare import model

    port = model.Bare._port

    def lost(self, component, layer):
        self._blocks[layer].inside.clear()
        return port(self, component, layer)

    with monkeypatch.context() as patch:
        patch.setattr(model.Bare, "_port", lost)
        assert run() == 0
    found = json.loads(Path("run/metrics/verify.json").read_text())
    assert found == {"verdict": "not_verified", "reason": "the reference does not know where blocks.0.z is in this model"}
    assert "these numbers are not verified: the reference does not know" in capsys.readouterr().err
    assert read_manifest(Path("run")).undone is None  # nothing that a rerun could make up for


def test_memory_that_is_short_for_a_second_copy_is_told(run, monkeypatch, capsys):
    from tiny_ablation.verify import plain

    monkeypatch.setattr(plain, "_SPARE", 0.0)
    assert run() == 0
    found = json.loads(Path("run/metrics/verify.json").read_text())
    assert found["verdict"] == "not_verified"
    assert "a second copy of the weights takes" in found["reason"]
    assert "verify failed: a second copy" in capsys.readouterr().err


def test_a_full_disk_is_the_users_to_mend(run, monkeypatch, capsys):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "no space", "metrics/x.parquet")

    with monkeypatch.context() as patch:
        patch.setattr(STAGES["statistics"][0], full)
        assert run() == 2
    assert "statistics failed: Cannot write metrics/x.parquet: no space left" in capsys.readouterr().err
    assert run() == 0


def test_an_interrupt_ends_the_run_whatever_stage_it_is_in(run, monkeypatch):
    from tiny_ablation.errors import Interrupted

    def interrupted(*_):
        raise Interrupted("stop")

    monkeypatch.setattr(STAGES["statistics"][0], interrupted)
    assert run() == 130
    assert not Path("run/manifest.json").exists()
    assert Path("run/metrics/per_example.parquet").is_file()
