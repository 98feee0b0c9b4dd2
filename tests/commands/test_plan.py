"""`plan` says what a run will be, and the run is that."""

import pandas as pd
import pytest

from tiny_ablation.commands import plan

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


def test_it_says_which_effects_can_be_found(cli):
    """Ten real heads of 270 with an effect of .8 take 29 groups, one alone 39 (a plain simulation of t tests)."""
    _, needed = plan._power(12, 270, 0.8, 10)
    assert [needed["1"], needed["10"]] == pytest.approx([39, 29], rel=0.1)
    [found] = cli("plan", *TOY, "ablation.scales=[0]", "--effect", "0.8", "--real", "3", "--json").json()
    assert (found["groups"], found["tests"]) == (12, 8)
    assert found["finds"]["3"] < found["finds"]["1"]
    assert found["groups_needed"]["3"] < found["groups_needed"]["1"]
    told = cli("plan", *TOY, "ablation.scales=[0]", "--effect", "0.8", "--real", "3").out
    assert f"effects of {found['finds']['3']:.2f} and more, where 3 sites have one" in told
    assert f"{found['groups_needed']['1']} groups find 0.8, where one site has one" in told
    assert "within 0.8" in told


@pytest.mark.parametrize("args", [("--effect", "0"), ("--effect", "-1"), ("--real", "0")])
def test_impossible_effects_are_refused(cli, args):
    result = cli("plan", *TOY, *args)
    assert result.code == 2
    assert "above 0" in result.err
