"""`aggregate` and `invariants` on a made-up sweep."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.ledgers import adopt
from tests.sweep.analysis.conftest import NOTHING_SAID
from tiny_ablation.report.sweep_screen import conserved
from tiny_ablation.store.files import read_json, write_json, write_table
from tiny_ablation.store.manifest import write_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import conform, conform_examples
from tiny_ablation.store.sweepdir import Cell, SweepDir, SweepPlan, write_plan

# Of described heads, by condition; the groups' effects differ a little.
EFFECTS = {"facts": (-1.0, -0.8, 0.6, 0.0, -0.1, 0.05), "ioi": (-0.9, -0.7, 0.1, 0.5, 0.05, -0.1)}


@pytest.fixture
def sweep(tmp_path):
    """A sweep of two conditions; a function that adds a cell that failed."""
    cells = [Cell(i, name, name, 0, (f"dataset={name}",)) for i, name in enumerate(EFFECTS)]
    for cell in cells:
        write_run(RunDir(tmp_path / "sweep" / cell.dir), cell.condition)
    write_plan(tmp_path / "sweep", SweepPlan("plan", ("dataset",), tuple(cells), {"k": 3}))

    def fail():
        failed = Cell(2, "sva", "sva", 0, ("dataset=sva",))
        write_manifest(RunDir(tmp_path / "sweep/sva"), run_id="s", status="failed", digest="s", covers={}, error="no such rows")
        write_plan(tmp_path / "sweep", SweepPlan("plan", ("dataset",), (*cells, failed), {"k": 3}))

    return fail


def write_run(run, name):
    site = {"layer": [0, 0, 0, 1, 1, 1], "head": [0, 1, 2] * 2, "scale": 0.0}
    common = {"run_id": name, "seed": 0, "replacement": "zero", "positions": "all", "direction": "clean"}
    table = pd.DataFrame(site).assign(
        **common,
        metric="logit_diff",
        value=1.0,
        condition=name,
        model="toy",
        dataset=name,
        n=8,
        baseline=2.0,
        delta=EFFECTS[name],
        granularity="head",
        component="z",
        set="single",
        null="none",
        **NOTHING_SAID,
    )
    rows = [
        {
            "layer": i // 3,
            "head": i % 3,
            "scale": 0.0,
            "example_id": f"e{g}",
            "group": f"g{g}",
            "template": "t",
            "prediction": "x",
            "prediction_baseline": "x",
            "logit_diff": effect + 0.01 * (g - 3.5),
            "logit_diff_baseline": 0.0,
        }
        for i, effect in enumerate(EFFECTS[name])
        for g in range(8)
    ]
    write_table(run.table("head_impact"), conform(table, "head_impact"))
    examples = pd.DataFrame(rows).assign(**common)
    write_table(run.per_example, conform_examples(examples, "head_impact", ["logit_diff"]))
    summary = {"model": "toy", "dataset": name, "kind": "heads_zero", "primary": "logit_diff", "seed_effect": "none"}
    effect = {"logit_diff": {"mean_delta": -0.2, "ci_low": -0.3, "ci_high": -0.1}}
    write_json(run.summary, summary | {"metrics": effect, "baseline": {}, "warnings": []})
    adopt(run.path)
    write_manifest(run, run_id=name, status="ok", digest=name, covers={})


def test_aggregate(cli, sweep):
    done = cli("aggregate", "sweep", "--json")
    assert done.code == 0, done.err
    assert done.json()["complete"] is True
    assert "artifacts/cross_condition/head_matrix.parquet" in done.json()["files"]
    shown = cli("aggregate", "sweep")
    assert shown.code == 0
    assert "facts" in shown.out + shown.err
    assert "L0H0, L0H1" in shown.out + shown.err


def test_aggregate_with_a_failed_cell(cli, sweep):
    sweep()
    done = cli("aggregate", "sweep")
    assert done.code == 1
    assert "no such rows" in done.out + done.err


def test_invariants_as_the_sweep_has_them(cli, sweep, tmp_path):
    cli("aggregate", "sweep")
    stored = json.loads((tmp_path / "sweep/artifacts/cross_condition/invariants.json").read_text())
    assert cli("invariants", "sweep", "--json").json() == stored


def test_invariants_with_other_parameters_leave_the_file_alone(cli, sweep, tmp_path):
    cli("aggregate", "sweep")
    path = tmp_path / "sweep/artifacts/cross_condition/invariants.json"
    before = path.read_bytes()
    found = cli("invariants", "sweep", "--k", "3", "--metric", "logit_diff", "--op", "difference", "--json").json()
    assert found["heads"] == [{"layer": 0, "head": 2}, {"layer": 1, "head": 0}]
    assert path.read_bytes() == before
    helps = ("invariants", "sweep", "--k", "1", "--direction", "helps", "--op", "union")
    assert cli(*helps, "--write", "--json").json() == json.loads(path.read_text())
    assert json.loads(path.read_text())["heads"] == found["heads"]
    from tiny_ablation.store.manifest import check_files

    assert check_files(RunDir(tmp_path / "sweep")) == []


def test_invariants_in_words(cli, sweep):
    shown = cli("invariants", "sweep", "--k", "2")
    assert shown.code == 0, shown.err
    for words in ("6 components by logit_diff (a fall hurts)", "k=2", "-1.000", "2 kept", "expected, p ", "Kendall's W"):
        assert words in shown.out
    assert "0.2 " not in shown.out.split("2 kept")[0]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("aggregate", "."), ("no sweep", "sweep.json")),
        (("aggregate",), ("DIR", "--help")),
        (("invariants", "."), ("no sweep",)),
        (("invariants", "sweep", "--k", "0"), ("sweep.k=0", "q0.05")),
        (("invariants", "sweep", "--k", "q2"), ("sweep.k=q2",)),
        (("invariants", "sweep", "--op", "all"), ("--op", "intersection")),
        (("invariants", "sweep", "--metric", "a", "--metric", "a"), ("sweep.metrics",)),
    ],
)
def test_wrong_input(cli, sweep, args, words):
    done = cli(*args)
    assert done.code == 2
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err


def test_a_sweep_whose_rankings_all_tie_can_be_shown(sweep, cli):
    """Kendall's W is not defined then."""
    assert cli("aggregate", "sweep").code == 0
    path = SweepDir(Path("sweep")).cross / "invariants.json"
    content = read_json(path)
    content["sets"][0]["agreement"]["kendalls_w"] = None
    said = " ".join(conserved(content))
    assert "2 of 6 attention heads are in the top set of every condition" in said
    assert "Kendall" not in said
    content["sets"][0]["size"] = 1
    assert "1 of 6 attention heads is in the top set" in " ".join(conserved(content))
