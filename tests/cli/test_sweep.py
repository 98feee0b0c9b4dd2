"""A sweep through the real command line: matrices, resume, failure, refusal."""

import errno
import importlib
import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from tests.cli.conftest import TOY
from tiny_ablation.store.manifest import read_manifest
from tiny_ablation.store.sweepdir import SweepDir, read_plan

GRID = ("-m", *TOY, "verify=off", "dataset=facts,sva", "dataset.n_examples=12", "seed=0,1", "hydra.sweep.dir=sweep")


def matrices(directory):
    """The bytes of everything that equal sweeps share."""
    cross = SweepDir(directory).cross
    return {path.name: path.read_bytes() for path in sorted(cross.iterdir()) if path.suffix in (".parquet", ".json")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep of two behaviours by two seeds, and what was printed."""
    place = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-m", "tiny_ablation", *GRID]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return place / "sweep", done.stdout


@pytest.fixture
def swept(finished, tmp_path):
    """A copy of it, to be changed; a sweep's directory may be moved."""
    shutil.copytree(finished[0], tmp_path / "sweep")
    return finished[1]


def test_a_sweep_ends_in_matrices(swept, tmp_path):
    sweep = SweepDir(tmp_path / "sweep")
    plan = read_plan(sweep.path)
    assert plan.varies == ("dataset", "seed")
    assert plan.conditions == ["facts", "sva"]
    assert [read_manifest(sweep.run(cell).path).status for cell in plan.cells] == ["ok"] * 4
    matrix = pd.read_parquet(sweep.cross / "head_matrix.parquet")
    assert set(matrix["condition"]) == {"facts", "sva"}
    assert matrix["run_id"].nunique() == 4
    summary = json.loads(sweep.summary.read_text())
    assert summary["complete"]
    assert summary["conditions"]["facts"]["seeds"] == [0, 1]
    assert read_manifest(sweep.path).status == "ok"
    assert "facts, seed 0  ok" in swept


def test_a_rerun_skips_what_is_done_before_torch_is_imported(swept, cli, tmp_path, shell):
    before = matrices(tmp_path / "sweep")
    again = shell(*GRID, "hydra/launcher=basic")
    assert again.code == 0, again.err
    assert again.out.count("done before") == 4
    assert matrices(tmp_path / "sweep") == before
    probe = shell(*GRID, "hydra/launcher=basic", PYTHONPROFILEIMPORTTIME="1")
    assert " torch\n" not in probe.err
    assert "omegaconf" in probe.err


def test_only_a_damaged_cell_is_computed_again(swept, cli, tmp_path):
    before = matrices(tmp_path / "sweep")
    (table,) = (tmp_path / "sweep").glob("toy/sva/*/3_seed1/metrics/head_impact.parquet")
    table.write_bytes(table.read_bytes()[:-1] + b"?")
    again = cli(*GRID)
    assert again.code == 0, again.err
    assert (again.out.count("done before"), again.out.count(" ok ")) == (3, 1)
    assert matrices(tmp_path / "sweep") == before


def test_a_failing_cell_costs_the_others_nothing(cli, tmp_path):
    """Some of the facts have a length of their own, so no other can give its values to them."""
    result = cli(
        "-m", *TOY, "verify=off", "dataset=greater_than,facts", "ablation=heads_resample", "seed=0", "hydra.sweep.dir=sweep"
    )
    assert result.code == 1
    sweep = SweepDir(tmp_path / "sweep")
    assert set(pd.read_parquet(sweep.cross / "head_matrix.parquet")["condition"]) == {"greater_than"}
    (failed,) = json.loads(sweep.summary.read_text())["failed"]
    assert failed["condition"] == "facts"
    assert failed["error"]
    assert failed["error"][:40] in result.err
    status = cli("status", "sweep", "--json")
    assert status.code == 1
    assert [cell["state"] for cell in json.loads(status.out)] == ["ok", "failed"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("dataset=facts,nope",), "there is no dataset=nope; there are counterfactual, "),
        (("dataset=facts", "dataset.n_examples=5,0"), "job 2 of 2"),
        (("dataset=facts", "seed=0,0"), "give no value twice"),
        (("dataset=facts,sva", "condition=mine"), "condition mine with seed 0"),
        (("dataset=facts", "seed=0,1", "sweep.k=many"), "sweep.k"),
        (("dataset=facts", "stats.confidence=0.8,0.9"), "stats.confidence=0.8,0.9: the intervals of a sweep have one level"),
    ],
)
def test_what_cannot_work_is_refused_before_any_job(cli, tmp_path, overrides, words):
    result = cli("-m", "model=toy", "tracking=off", *overrides, "hydra.sweep.dir=sweep")
    assert result.code == 2
    assert words in result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.rglob("*.json"))


def test_a_directory_of_another_sweep_is_refused(swept, cli, tmp_path):
    before = matrices(tmp_path / "sweep")
    result = cli(*GRID[:-2], "seed=0,1,2", "hydra.sweep.dir=sweep")
    assert result.code == 2
    assert "belongs to another sweep" in result.err
    assert matrices(tmp_path / "sweep") == before


@pytest.mark.slow
def test_models_are_loaded_once_a_process(cli, tmp_path, monkeypatch):
    from tiny_ablation.models import loader

    loaded, load = [], loader._load
    monkeypatch.setattr(loader, "_load", lambda cfg, *rest: loaded.append(cfg.name) or load(cfg, *rest))
    loader.forget()
    assert cli(*GRID, "hydra/launcher=basic").code == 0
    assert loaded == ["toy"]


@pytest.mark.slow
def test_seeds_that_change_nothing_are_said_to(cli, tmp_path):
    result = cli(
        "-m",
        *TOY[:2],
        *TOY[3:],
        "verify=off",
        "dataset=facts",
        "dataset.n_examples=null",
        "dataset.split=test",
        "ablation.layers=[0]",
        "seed=0,1",
        "hydra.sweep.dir=sweep",
    )
    assert result.code == 0, result.err
    assert "one measurement, not 2" in result.err
    (condition,) = json.loads(SweepDir(tmp_path / "sweep").summary.read_text())["conditions"].values()
    for found in condition["metrics"].values():
        assert found["n_seeds"] == 1
        assert found["seeds"]["low"] == found["seeds"]["high"] == found["mean"]


@pytest.mark.slow
def test_sweeps_of_one_second_have_a_directory_each(cli, tmp_path):
    """Here of one year, so that the test need not be quick; the jobs of the second go where it is."""
    args = (*GRID[:-2], "seed=0", "hydra/launcher=basic", "hydra.sweep.dir=multirun/${now:%Y}")
    assert [cli(*args, f"dataset.n_examples={n}").code for n in (8, 9)] == [0, 0]
    first, second = sorted((tmp_path / "multirun").iterdir())
    assert second.name == f"{first.name}-2"
    for place, n in ((first, 8), (second, 9)):
        summary = json.loads(SweepDir(place).summary.read_text())
        assert summary["complete"]
        assert {found["n_examples"] for found in summary["conditions"].values()} == {n}
    assert cli(*args, "dataset=nope").code == 2
    assert len(list((tmp_path / "multirun").iterdir())) == 2


def test_no_room_for_the_locks_of_workers_is_told_with_the_ways_on(cli, tmp_path, monkeypatch):
    """A full /dev/shm, which is not the disk that results are written to."""
    synchronize = importlib.import_module("joblib.externals.loky.backend.synchronize")

    def full(*_args, **_how):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(synchronize, "_SemLock", full)
    refused = cli("-m", *TOY, "verify=off", "dataset=facts", "seed=0,1", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep")
    assert refused.code == 2
    assert "/dev/shm (No space left on device)" in refused.err
    assert "hydra/launcher=basic" in refused.err
    assert "hydra.sweep.dir=" in refused.err
