import json
import os

import numpy as np
import pandas as pd
import pytest

from tests.sweep.analysis.conftest import OF
from tiny_ablation.config.seeds import generator
from tiny_ablation.errors import ConfigError, ResultsError
from tiny_ablation.stats.clusters import cluster_sums
from tiny_ablation.stats.means import cluster_means
from tiny_ablation.store.files import read_json, read_table
from tiny_ablation.store.manifest import check_files, read_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import TABLES, conform
from tiny_ablation.store.sweepdir import SweepDir, write_plan
from tiny_ablation.sweep.analysis import aggregate_sweep, sweep_invariants

STRONG = {1: -1.0, 5: -0.8}


@pytest.fixture
def children(make):
    return [make.planted(c, s, strong=STRONG) for c in ("facts", "ioi") for s in (0, 1, 2)]


@pytest.fixture
def sweep(make, children, tmp_path):
    return make.write_sweep(tmp_path / "sweep", children, k=2)


def written(sweep):
    own = [*(sweep / "artifacts").rglob("*"), sweep / "manifest.json", sweep / "machine.json"]
    return {path.relative_to(sweep).as_posix(): path.read_bytes() for path in own if path.is_file()}


def result(sweep, name):
    return read_json(SweepDir(sweep).cross / f"{name}.json")


def test_what_is_written(sweep):
    outcome = aggregate_sweep(sweep)
    assert outcome.complete
    assert sorted(path.name for path in outcome.files) == [
        "geometry.json",
        "head_matrix.parquet",
        "head_means.parquet",
        "hypotheses.json",
        "invariants.json",
        "summary.json",
    ]
    assert check_files(RunDir(sweep)) == []
    manifest = read_manifest(sweep)
    assert manifest.status == "ok"
    assert set(manifest.covers["cells"].values()) == {f"{c}-{s}" for c in ("facts", "ioi") for s in range(3)}
    # The runs have manifests of their own.
    assert all(name.startswith("artifacts/cross_condition/") for name in manifest.files)


def test_the_same_bytes_again_and_from_elsewhere(sweep, tmp_path, monkeypatch):
    aggregate_sweep(sweep)
    before = written(sweep)
    assert len(before) == 8
    monkeypatch.chdir(tmp_path)
    aggregate_sweep(sweep.relative_to(tmp_path))
    assert written(sweep) == before


def test_the_matrix_is_every_row_of_every_run_with_the_plans_label(sweep, make, children):
    aggregate_sweep(sweep)
    matrix = read_table(SweepDir(sweep).cross / "head_matrix.parquet")
    assert tuple(matrix.columns) == TABLES["head_impact"].columns
    plan = make.plan_of(children)
    runs = [read_table(sweep / c.dir / "metrics/head_impact.parquet").assign(condition=c.condition) for c in plan.cells]
    expected = conform(pd.concat(runs), "head_impact")
    pd.testing.assert_frame_equal(conform(matrix, "head_impact"), expected)


def pooled(mades, values):
    """The interval of the examples of all seeds, clustered by group, as of one run that had drawn them all."""
    groups = [group for made in mades for group in made.groups]
    sums, sizes = cluster_sums(np.concatenate(values)[None], groups)
    found = cluster_means(sums, sizes, rng=generator(0, "sweep", "pooled", "logit_diff"))
    return float(found.low[0]), float(found.high[0])


def test_seeds_pool_their_examples_by_wording(sweep, children):
    """Student's t over three seeds gives .68 of its width for the spread of three means, whatever wordings they drew."""
    aggregate_sweep(sweep)
    mine = [made for made in children if made.condition == "ioi"]
    means = read_table(SweepDir(sweep).cross / "head_means.parquet")
    row = means.query("condition == 'ioi' and metric == 'logit_diff' and layer == 1 and head == 2").iloc[0]
    values = [made.effects[5].mean() for made in mine]
    assert row["n_seeds"] == 3
    np.testing.assert_allclose(row["delta"], np.mean(values))
    assert (row["seeds_low"], row["seeds_high"]) == (min(values), max(values))
    alone = cluster_sums(np.concatenate([made.effects for made in mine], axis=1), [g for made in mine for g in made.groups])
    every = cluster_means(*alone, rng=generator(0, "sweep", "pooled", "logit_diff"))
    np.testing.assert_allclose(row[["ci_low", "ci_high"]].to_list(), [every.low[5], every.high[5]])


def test_metrics_over_seeds_by_hand(sweep, children):
    aggregate_sweep(sweep)
    found = result(sweep, "summary")["conditions"]["facts"]
    mine = [made for made in children if made.condition == "facts"]
    assert found["replicates"] is True
    assert found["seeds"] == [0, 1, 2]
    base = found["baseline"]["logit_diff"]
    # Baselines 2.0, 2.1, 2.2.
    assert base["mean"] == pytest.approx(2.1)
    assert base["seeds"] == pytest.approx({"low": 2.0, "high": 2.2})
    baselines = [made.baseline + 0.1 * made.seed + made.effects[0] for made in mine]
    assert (base["ci_low"], base["ci_high"]) == pytest.approx(pooled(mine, baselines))
    effect = found["metrics"]["logit_diff"]
    assert (effect["ci_low"], effect["ci_high"]) == pytest.approx(pooled(mine, [made.effects.mean(0) for made in mine]))


def test_a_failed_and_a_missing_cell_cost_the_others_nothing(make, children, sweep, tmp_path):
    aggregate_sweep(sweep)
    whole = read_table(SweepDir(sweep).cross / "head_matrix.parquet")
    other = make.write_sweep(tmp_path / "other", children, extra=[("negation", 0), ("negation", 1)], k=2)
    failed = make.plan_of(children, [("negation", 0)]).cells[-1]
    make.write_child(other / failed.dir, children[0], status="failed", digest="", error="the tokenizer cannot")
    outcome = aggregate_sweep(other)
    assert not outcome.complete
    summary = result(other, "summary")
    assert [(c["condition"], c["seed"], c["error"]) for c in summary["failed"]] == [("negation", 0, "the tokenizer cannot")]
    assert [(c["condition"], c["seed"], c["status"]) for c in summary["missing"]] == [("negation", 1, "missing")]
    assert summary["conditions"]["negation"]["seeds"] == []
    pd.testing.assert_frame_equal(read_table(SweepDir(other).cross / "head_matrix.parquet"), whole)
    assert result(other, "invariants")["heads"] == result(sweep, "invariants")["heads"]
    assert read_manifest(other).status == "failed"


@pytest.mark.parametrize("name", ["metrics/head_impact.parquet", "metrics/per_example.parquet", "metrics/summary.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_run_is_a_failed_cell(sweep, make, children, name, damage):
    cell = make.plan_of(children).cells[1]
    path = sweep / cell.dir / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.unlink()
    outcome = aggregate_sweep(sweep)
    [bad] = outcome.failed
    assert bad.cell.dir == cell.dir
    assert "Run" in bad.error
    assert str(sweep) not in bad.error  # or the summary would depend on where the sweep stands
    assert [s.cell.dir for s in outcome.ok] == [c.dir for c in make.plan_of(children).cells if c != cell]


OTHERS = [({"weights": "other"}, "weights other there, w here"), ({"versions": {"torch": "3"}}, "torch 3 there, 2 here")]


@pytest.mark.parametrize(("change", "told"), OTHERS)
def test_a_run_of_other_content_is_in_no_matrix(make, children, sweep, change, told):
    cell = make.plan_of(children).cells[1]
    aggregate_sweep(sweep)
    make.write_child(sweep / cell.dir, children[1], digest="other", covers=OF | change)
    outcome = aggregate_sweep(sweep)
    assert [(s.cell.dir, told in s.error) for s in outcome.failed] == [(cell.dir, True)]
    matrix = read_table(SweepDir(sweep).cross / "head_matrix.parquet")
    assert set(zip(matrix["condition"], matrix["seed"], strict=True)) == {
        (c.condition, c.seed) for c in make.plan_of(children).cells if c != cell
    }


def test_a_plan_that_does_not_say_what_its_runs_are_made_of_takes_one_code_only(make, children, tmp_path):
    make.write_sweep(tmp_path, children)
    plan = make.plan_of(children)
    cells = tuple(make.replace(cell, digest="", content={}) for cell in plan.cells)
    write_plan(tmp_path, make.replace(plan, cells=cells, content={}))
    outcome = aggregate_sweep(tmp_path)
    assert outcome.complete
    assert "did not record the weights and data" in outcome.warnings[0]
    make.write_child(tmp_path / cells[1].dir, children[1], covers=OF | {"versions": {"torch": "3"}})
    [bad] = aggregate_sweep(tmp_path).failed
    assert bad.cell == cells[1]
    assert "torch 3 there, 2 here" in bad.error


def test_a_damaged_manifest_and_a_stopped_run(sweep, make, children):
    cells = make.plan_of(children).cells
    (sweep / cells[0].dir / "manifest.json").write_text("{")
    make.write_child(sweep / cells[1].dir, children[1], status="partial")
    outcome = aggregate_sweep(sweep)
    assert [s.cell.job for s in outcome.failed] == [0]
    assert [(s.cell.job, s.state) for s in outcome.missing] == [(1, "partial")]


def test_the_same_run_twice_counts_once(make, children, tmp_path):
    twice = [*children, children[0]]
    outcome = aggregate_sweep(make.write_sweep(tmp_path, twice, k=2))
    assert outcome.complete
    assert [s.cell.job for s in outcome.of("duplicate")] == [6]
    assert "is left out" in outcome.warnings[0]
    assert result(tmp_path, "summary")["conditions"]["facts"]["seeds"] == [0, 1, 2]


def test_two_runs_of_one_condition_and_seed_are_not_averaged(make, children, tmp_path):
    make.write_sweep(tmp_path, children)
    plan = make.plan_of([*children, children[0]])
    plan = make.replace(plan, cells=(*plan.cells[:-1], make.replace(plan.cells[-1], digest="another")))
    write_plan(tmp_path, plan)
    make.write_child(tmp_path / plan.cells[-1].dir, children[0], digest="another")
    [bad] = aggregate_sweep(tmp_path).failed
    assert "condition=NAME" in bad.error


def test_seeds_that_draw_nothing_are_no_replicates(make, tmp_path):
    same = [make.planted("facts", 0, strong=STRONG, seed_effect="none")] * 3
    # The last bits of a measurement may differ; that is no replication either.
    children = [make.replace(made, seed=s, effects=made.effects + 1e-9 * s) for s, made in enumerate(same)]
    children += [make.planted("ioi", seed) for seed in range(3)]
    outcome = aggregate_sweep(make.write_sweep(tmp_path, children))
    facts, ioi = (result(tmp_path, "summary")["conditions"][name] for name in ("facts", "ioi"))
    assert (facts["replicates"], ioi["replicates"]) == (False, True)
    # One measurement: its own interval, and no more examples than it has.
    assert [facts["baseline"]["logit_diff"][key] for key in ("n_seeds", "ci_low", "ci_high")] == [1, 1.0, 3.0]
    assert [facts["metrics"]["logit_diff"][key] for key in ("n_seeds", "ci_low", "ci_high")] == [1, -1.0, 1.0]
    assert ioi["metrics"]["logit_diff"]["ci_low"] < ioi["metrics"]["logit_diff"]["ci_high"]
    assert any("facts" in text and "not 3" in text for text in outcome.warnings)
    means = read_table(SweepDir(tmp_path).cross / "head_means.parquet")
    assert means.loc[means["condition"] == "facts", "ci_low"].isna().all()
    assert set(means.loc[means["condition"] == "facts", "n_seeds"]) == {1}
    assert means.loc[means["condition"] == "ioi", "ci_low"].notna().all()


def test_intervals_have_the_level_of_the_runs(make, children, tmp_path):
    for level in (0.95, 0.8):
        aggregate_sweep(make.write_sweep(tmp_path / str(level), [make.replace(made, confidence=level) for made in children]))
    summaries = [result(tmp_path / str(level), "summary") for level in (0.95, 0.8)]
    assert [s["confidence"] for s in summaries] == [0.95, 0.8]
    assert ["95 % interval" in summaries[0]["interval"], "80 % interval" in summaries[1]["interval"]] == [True, True]
    wide, narrow = (s["conditions"]["facts"]["metrics"]["logit_diff"] for s in summaries)
    assert wide["ci_low"] < narrow["ci_low"] < narrow["mean"] < narrow["ci_high"] < wide["ci_high"]
    means = [read_table(SweepDir(tmp_path / str(level)).cross / "head_means.parquet") for level in (0.95, 0.8)]
    widths = [(m["ci_high"] - m["delta"]).to_numpy() for m in means]
    assert (widths[1] < widths[0]).all()


def test_a_sweep_without_any_result(make, tmp_path):
    write_plan(tmp_path, make.plan_of([], [("facts", 0)]))
    outcome = aggregate_sweep(tmp_path)
    assert len(outcome.missing) == 1
    assert result(tmp_path, "invariants")["heads"] == []
    with pytest.raises(ResultsError, match="no finished run"):
        sweep_invariants(tmp_path, lambda cfg: cfg)


def test_a_matrix_whose_runs_are_gone_is_deleted(sweep, make, children):
    aggregate_sweep(sweep)
    for cell in make.plan_of(children).cells:
        os.remove(sweep / cell.dir / "manifest.json")
    aggregate_sweep(sweep)
    assert not list(SweepDir(sweep).cross.glob("*.parquet"))


def test_both_directions_of_a_run_are_two_profiles(make, tmp_path):
    forth = make.planted("facts", strong=STRONG, heads=1, layers=8, table="layer_impact", direction="corrupt_to_clean")
    back = make.replace(forth, direction="clean_to_corrupt", effects=-forth.effects)
    plan = make.plan_of([forth], k=2)
    make.write_child(tmp_path / plan.cells[0].dir, forth, back)
    write_plan(tmp_path, plan)
    aggregate_sweep(tmp_path)
    found = result(tmp_path, "invariants")
    assert found["layers"] == [1, 5]
    assert found["heads"] == []
    [entry] = found["sets"]
    assert [c["direction"] for c in entry["conditions"]] == ["clean_to_corrupt", "corrupt_to_clean"]
    assert entry["conditions"][0]["members"][0]["delta"] == -entry["conditions"][1]["members"][0]["delta"]


def test_no_sweep(tmp_path):
    with pytest.raises(ResultsError, match="no sweep"):
        aggregate_sweep(tmp_path)


def test_settings_that_make_no_sense(make, children, tmp_path):
    with pytest.raises(ConfigError, match=r"sweep\.op=all"):
        aggregate_sweep(make.write_sweep(tmp_path, children[:1], op="all"))


def test_json_holds_no_nan(sweep):
    aggregate_sweep(sweep)
    for path in SweepDir(sweep).cross.glob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)


@pytest.mark.slow
def test_500_runs_of_270_heads(make, tmp_path):
    import psutil

    from benchmarks.memory import Peak

    metrics = ("logit_diff", "prob_diff", "p_drop", "kl_div", "entropy", "seq_logprob_diff", "seq_kl_mean")
    children = [
        make.planted(f"c{c}", s, strong=STRONG, layers=30, heads=9, per_group=4, metrics=metrics)
        for c in range(10)
        for s in range(50)
    ]
    make.write_sweep(tmp_path, children)
    before = psutil.Process().memory_info().rss
    with Peak() as peak:
        assert aggregate_sweep(tmp_path).complete
    assert peak.bytes - before < 2**30  # other tests of this process hold models
