"""`plan` says what a run will be, and the run is that."""

import pandas as pd
import pytest

TOY = ("model=toy", "dataset.n_examples=12", "stats.n_boot=100", "stats.n_perm=100")


@pytest.mark.parametrize("shape", ["llama", "gpt2", "neox"])
def test_heads_by_hand(cli, shape):
    [found] = cli(
        "plan",
        *TOY,
        f"model.shape={shape}",
        "ablation.scales=[0]",
        "metrics.names=[logit_diff,p_drop]",
        "--json",
    ).json()
    heads = 2 * 4
    assert (found["examples"], found["interventions"]) == (12, heads)
    assert found["impact_rows"] == heads * 2
    assert found["example_rows"] == heads * 12
    # A head of the first block runs both, one of the last block one of two.
    assert found["forwards"] == 12 * (1 + 4 * 1 + 4 * 0.5)
    assert found["operations"] > 0
    assert found["seconds"] > 0


def test_the_run_has_the_rows_that_were_planned(cli, tmp_path):
    scales = "ablation.scales=[0,0.5]"
    [planned] = cli("plan", *TOY, scales, "--json").json()
    assert not (tmp_path / "outputs").exists()  # planning writes nothing
    assert cli(*TOY, scales, "tracking=off", "verify=off", "hydra.run.dir=run").code == 0
    metrics = tmp_path / "run" / "metrics"
    assert len(pd.read_parquet(metrics / "head_impact.parquet")) == planned["impact_rows"]
    examples = pd.read_parquet(metrics / "per_example.parquet")
    assert len(examples.drop_duplicates(["layer", "head", "scale", "example_id"])) == planned["example_rows"]


def test_a_sweep_has_a_line_for_each_cell_and_a_total(cli):
    found = cli("plan", "-m", *TOY, "seed=0,1", "dataset=facts,ioi", "--json").json()
    assert {(each["condition"], each["seed"]) for each in found} == {
        (condition, seed) for seed in (0, 1) for condition in ("facts", "ioi")
    }
    told = cli("plan", "-m", *TOY, "seed=0,1", "dataset=facts,ioi").out
    assert "4 runs" in told
    assert "facts, seed 1" in told


def test_an_experiment_that_is_a_sweep_by_itself_is_planned_as_one(cli):
    """`experiment=robustness` is ten runs: five replacements on raw and on folded weights."""
    told = cli("plan", "experiment=robustness", *TOY)
    assert "10 runs, about " in told.out
    assert "heads_mean_template" in told.out
    assert len(cli("plan", "experiment=robustness", *TOY, "model.weights=raw", "--json").json()) == 5
