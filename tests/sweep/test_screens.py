"""In a sweep that screens, every cell measures what any of the screenings chose, also after it was stopped."""

import json
import shutil

import pandas as pd
import pytest

from tests.cli.conftest import TOY
from tiny_ablation.errors import DataError
from tiny_ablation.store.checksummed_json import write_sealed
from tiny_ablation.store.sweepdir import SweepDir, read_plan
from tiny_ablation.sweep import screens

SWEEP = (
    "-m",
    *TOY,
    "verify=off",
    "dataset=facts,ioi",
    "dataset.n_examples=6",
    "ablation=heads_zero",
    "ablation.scales=[0.0]",
    "ablation.screen=attribution",
    "ablation.screen_top=2",
    "ablation.screen_random=3",
    "hydra/launcher=basic",
    "hydra.sweep.dir=sweep",
)


def measured(run):
    """The heads that a run measured, and those that its own screening chose."""
    impact = pd.read_parquet(run.table("head_impact"))
    estimates = pd.read_parquet(run.path / "metrics" / "attribution.parquet")
    own = estimates[estimates["in_top"]]
    return {*zip(impact["layer"], impact["head"], strict=True)}, {*zip(own["layer"], own["unit"], strict=True)}


@pytest.mark.slow
def test_every_cell_measures_the_union_and_goes_on_with_the_screenings_it_has(cli, tmp_path, monkeypatch):
    assert cli(*SWEEP).code == 0
    sweep = SweepDir(tmp_path / "sweep")
    plan = read_plan(sweep.path)
    runs = [sweep.run(cell) for cell in plan.cells]
    (first, own), (second, others) = map(measured, runs)
    assert own != others  # else there is nothing to show
    assert own | others <= first & second
    assert {f"L{layer}H{head}" for layer, head in own | others} == {*plan.cells[0].also} == {*plan.cells[1].also}
    [entry] = json.loads((sweep.cross / "invariants.json").read_text())["sets"]
    assert not any("screen_also" in note for note in entry["notes"])
    # Stopped before its second cell, it does not screen again, and ends in the same bytes.
    files = {name: (runs[1].path / name).read_bytes() for name in ("manifest.json", "metrics/head_impact.parquet")}
    shutil.rmtree(runs[1].path)
    monkeypatch.setattr(screens, "_screen", None)
    again = cli(*SWEEP)
    assert again.code == 0, again.err
    assert again.out.count("done before") == 1
    assert {name: (runs[1].path / name).read_bytes() for name in files} == files


def refuse(_spec):
    raise DataError("no rows")


@pytest.mark.slow
def test_a_cell_that_cannot_be_screened_fails_alone(cli, tmp_path, monkeypatch):
    """What keeps it from being screened keeps it from running; the others have nothing to wait for."""
    monkeypatch.setattr(screens, "_screen", refuse)
    assert cli(*SWEEP).code == 0
    assert [cell.also for cell in read_plan(tmp_path / "sweep").cells] == [(), ()]


@pytest.mark.parametrize("content", [{}, {"a": 1}, {"a": {"component": "z", "sites": "L0", "chosen": []}}])
def test_screenings_that_cannot_be_read_are_made_anew(tmp_path, content):
    assert screens._read(tmp_path) == {}
    write_sealed(SweepDir(tmp_path).screens, content)
    assert screens._read(tmp_path) == {}
    SweepDir(tmp_path).screens.write_text("{}")
    assert screens._read(tmp_path) == {}
