import numpy as np
import pandas as pd
import pytest

from tests.sweep.analysis.conftest import NOTHING_SAID, OF
from tiny_ablation.stats.clusters import cluster_sums
from tiny_ablation.store.files import read_json, write_json, write_table
from tiny_ablation.store.manifest import read_manifest, write_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import conform
from tiny_ablation.store.sweepdir import SweepDir, read_plan
from tiny_ablation.sweep.analysis import aggregate_sweep
from tiny_ablation.sweep.analysis.pooled import pooled_intervals


def confirm(path, cell, delta, heads="L0H1 L1H2", status="ok", seed_effect="examples", covers=OF):
    """A run of `ablation=heads_set_zero` as sweep.confirm leaves it."""
    run = RunDir(SweepDir(path).confirm(cell))
    rows = pd.DataFrame({"metric": ["logit_diff", "p_drop"], "delta": [delta, 0.1]}).assign(
        run_id="c",
        seed=cell.seed,
        set="conserved",
        size=2,
        value=0.0,
        condition="x",
        model="toy",
        dataset="d",
        n=8,
        replacement="zero",
        positions="all",
        direction="clean",
        baseline=0.0,
        null="none",
        **NOTHING_SAID | {"ci_low": -3.0, "ci_high": -1.0},
        granularity="set",
        component="z",
        heads=heads,
        control_mean=-0.2,
        percentile=1.0,
    )
    write_table(run.table("set_impact"), conform(rows, "set_impact"))
    write_table(
        run.per_example,
        pd.DataFrame(
            {
                "set": "conserved",
                "group": list("abcdef"),
                "logit_diff": delta + np.arange(6) / 10 + cell.seed / 20,
                "logit_diff_baseline": 0.0,
            }
        ),
    )
    write_json(run.summary, {"split": "test", "seed_effect": seed_effect})
    write_manifest(run, run_id="c", status=status, digest=f"confirm {cell.dir}", covers=covers)


@pytest.fixture
def sweep(make, tmp_path):
    mades = [make.planted(c, s, strong={1: -1.0, 5: -0.8}) for c in ("facts", "ioi") for s in (0, 1)]
    return make.write_sweep(tmp_path, mades, k=2)


def found(sweep):
    aggregate_sweep(sweep)
    return read_json(SweepDir(sweep).cross / "invariants.json").get("confirmed")


def test_nothing_is_said_where_nothing_was_confirmed(sweep):
    assert found(sweep) is None


def test_the_effect_of_the_whole_set_over_seeds(sweep):
    for i, cell in enumerate(read_plan(sweep).cells):
        confirm(sweep, cell, -2.0 - i)
    facts, ioi = found(sweep)
    assert (facts["condition"], facts["metric"], facts["heads"], facts["split"]) == ("facts", "logit_diff", "L0H1 L1H2", "test")
    assert (facts["delta"], ioi["delta"]) == (-2.5, -4.5)
    assert facts["seeds"] == {"low": -3.0, "high": -2.0}
    # Six groups with two examples each: a half, one and so on apart, where two seeds would have one degree of freedom.
    rows = np.concatenate([[-2.0 + i / 10 for i in range(6)], [-3.0 + i / 10 + 0.05 for i in range(6)]])
    expected = pooled_intervals("logit_diff", *cluster_sums(rows[None], list("abcdef") * 2), 0.95)
    assert (facts["ci_low"], facts["ci_high"]) == pytest.approx((expected.low[0], expected.high[0]))
    assert (facts["random_sets"], facts["percentile"]) == (-0.2, 1.0)
    assert "confirm" not in " ".join(read_manifest(sweep).files)


def test_runs_of_another_set_or_unfinished_ones_are_left_out(sweep):
    one, two, three, four = read_plan(sweep).cells
    confirm(sweep, one, -2.0)
    confirm(sweep, two, -9.0, heads="L0H0")
    confirm(sweep, three, -9.0, status="failed")
    confirm(sweep, four, -9.0)
    SweepDir(sweep).confirm(four).joinpath("metrics/set_impact.parquet").write_bytes(b"cut")
    [only] = found(sweep)
    assert (only["condition"], only["n_seeds"], only["delta"]) == ("facts", 1, -2.0)


def test_a_run_with_other_weights_than_the_cells_confirms_nothing(sweep):
    cell = read_plan(sweep).cells[0]
    confirm(sweep, cell, -2.0, covers=OF | {"weights": "other"})
    assert found(sweep) is None


def test_seeds_that_draw_nothing_have_the_interval_of_one_run(sweep):
    for cell in read_plan(sweep).cells[:2]:
        confirm(sweep, cell, -2.0, seed_effect="none")
    [only] = found(sweep)
    assert (only["n_seeds"], only["ci_low"], only["ci_high"]) == (1, -3.0, -1.0)
