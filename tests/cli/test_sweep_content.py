"""What a sweep is computed from stays what it was: other weights or data are refused, and never mixed."""

import json

import pytest

from tests.cli.conftest import TOY, write_rows
from tests.cli.test_sweep import matrices
from tests.models.conftest import write_directory
from tiny_ablation.models import loader
from tiny_ablation.store.manifest import read_manifest
from tiny_ablation.store.sweepdir import SweepDir, read_plan

GRID = (
    "-m",
    *TOY[1:],
    "model=local",
    "model.path=model",
    "dataset=jsonl",
    "dataset.name=mine",
    "dataset.path=rows.jsonl",
    "verify=off",
    "dataset.n_examples=2",
    "seed=0,1",
    "hydra/launcher=basic",
    "hydra.sweep.dir=sweep",
)
ROWS = [
    {"clean": f"The capital of {of} is", "target": " Paris", "foil": " Rome", "corrupt": f"The capital of {other} is"}
    for of, other in (("France", "Italy"), ("Italy", "Japan"), ("Japan", "Spain"))
]


def write_model(place, seed):
    loader.forget()  # each command line has a process of its own
    write_directory(place / "model", seed)


def digests(place):
    sweep = SweepDir(place / "sweep")
    return [read_manifest(sweep.run(cell).path).digest for cell in read_plan(sweep.path).cells]


@pytest.fixture
def swept(cli, tmp_path):
    """A finished sweep."""
    write_model(tmp_path, 0)
    write_rows(tmp_path / "rows.jsonl", *ROWS)
    done = cli(*GRID)
    assert done.code == 0, done.err
    return tmp_path


def other_weights(place):
    write_model(place, 1)


def other_data(place):
    write_rows(place / "rows.jsonl", *ROWS[::-1])


@pytest.mark.parametrize(
    ("change", "told"), [pytest.param(other_weights, "weights files:", marks=pytest.mark.slow), (other_data, "data ")]
)
def test_a_finished_sweep_of_other_content_is_not_overwritten_unless_asked(swept, cli, change, told):
    before, runs = matrices(swept / "sweep"), digests(swept)
    change(swept)
    refused = cli(*GRID)
    assert refused.code == 2
    assert told in refused.err
    assert "(2 cells)" in refused.err
    assert "resume=false" in refused.err
    assert (matrices(swept / "sweep"), digests(swept)) == (before, runs)
    anew = cli(*GRID, "resume=false")
    assert anew.code == 0, anew.err
    assert not set(digests(swept)) & set(runs)
    assert matrices(swept / "sweep") != before
    assert cli(*GRID).out.count("done before") == 2


@pytest.mark.slow
def test_weights_that_change_while_a_sweep_runs_cost_the_cells_that_follow(cli, tmp_path, monkeypatch):
    """The cells before stay; the plan's weights are those that the sweep began with."""
    write_model(tmp_path, 0)
    write_rows(tmp_path / "rows.jsonl", *ROWS)
    from tiny_ablation import pipeline

    def then_change(spec, *rest, **how):
        run(spec, *rest, **how)
        write_model(tmp_path, 1)

    run = pipeline.run
    monkeypatch.setattr(pipeline, "run", then_change)
    mixed = cli(*GRID)
    assert mixed.code == 1
    first, second = SweepDir(tmp_path / "sweep").summary, cli("status", "sweep", "--json").json()
    assert [cell["status"] for cell in json.loads(first.read_text())["cells"]] == ["ok", "failed"]
    assert "has changed since it was planned (weights files:" in second[1]["error"]
    write_model(tmp_path, 0)
    monkeypatch.setattr(pipeline, "run", run)
    again = cli(*GRID)
    assert again.code == 0, again.err
    assert again.out.count("done before") == 1


def test_a_run_is_that_of_the_weights_that_were_loaded(cli, tmp_path, monkeypatch):
    """Whatever has become of the files by the time that the run is named."""
    from tiny_ablation.run import prepare

    write_model(tmp_path, 0)
    write_rows(tmp_path / "rows.jsonl", *ROWS)
    single = (*GRID[1:-3], "seed=0", "hydra.run.dir=run")
    assert cli(*single).code == 0
    before, build = read_manifest(tmp_path / "run"), prepare.build_network

    def then_change(model):
        write_directory(tmp_path / "model", 1)
        return build(model)

    monkeypatch.setattr(prepare, "build_network", then_change)
    loader.forget()
    assert cli(*single[:-1], "hydra.run.dir=again").code == 0
    assert read_manifest(tmp_path / "again") == before


@pytest.mark.slow
def test_a_killed_run_is_not_gone_on_with_on_other_weights(cli, tmp_path):
    """Its finished batches are refused as its results would be, and kept."""
    write_model(tmp_path, 0)
    write_rows(tmp_path / "rows.jsonl", *ROWS)
    single = (*GRID[1:-3], "seed=0", "hydra.run.dir=run")
    assert cli(*single).code == 0
    run = tmp_path / "run"
    kept = run / "partial/batch_00000.safetensors"
    assert not kept.exists()
    leave_batches(run)
    before = kept.read_bytes()
    write_model(tmp_path, 1)
    refused = cli(*single)
    assert refused.code == 2
    assert "1 finished batches of another run" in refused.err
    assert "weights files:" in refused.err
    assert kept.read_bytes() == before
    assert cli(*single, "resume=false").code == 0
    assert not kept.exists()


def leave_batches(run):
    """What a kill in the middle leaves: batches, and no manifest."""
    import numpy as np

    from tiny_ablation.config.identity import Identity
    from tiny_ablation.store.rundir import RunDir

    manifest = read_manifest(run)
    RunDir(run).partial(Identity(manifest.digest, dict(manifest.covers)), "").save(0, {"a": np.zeros(2)})
    (run / "manifest.json").unlink()
