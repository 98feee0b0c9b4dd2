"""`plan` says what a run will be, and the run is that."""

import pandas as pd
import pytest

from tiny_ablation.commands import plan
from tiny_ablation.commands._console import table
from tiny_ablation.commands._pilot import Pilot, pilot_lines

TOY = ("model=toy", "dataset.n_examples=12", "stats.n_boot=100", "stats.n_perm=100")


@pytest.mark.parametrize("shape", ["llama", "gpt2", "neox"])
def test_heads_by_hand(cli, shape):
    [found] = cli(
        "plan", *TOY, f"model.shape={shape}", "ablation.scales=[0]", "metrics.names=[logit_diff,p_drop]", "--json"
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


def test_a_pilot_run_says_which_of_its_effects_will_be_found(cli, tmp_path):
    cli("selfcheck", "--prompts", "prompts")
    planned = (
        "model=tracr_sort",
        "ablation.scales=[0]",
        "dataset=file",
        "dataset.path=prompts/tracr_sort.jsonl",
        "dataset.allow_answer_in_prompt=true",
        "metrics.names=[logit_diff]",
    )
    assert cli(*planned, "dataset.n_examples=8", "tracking=off", "verify=off", "hydra.run.dir=pilot").code == 0
    [found] = cli("plan", *planned, "dataset.n_examples=20", "--pilot", "pilot", "--json").json()
    pilot = found["pilot"]
    rows = pd.read_parquet(tmp_path / "pilot" / "metrics" / "head_impact.parquet").set_index(["layer", "head"])
    sizes = (rows["effect_size"] * rows["shrunken"] / rows["delta"]).abs().dropna()
    layer, head = sizes.idxmax()
    first = pilot["strongest"][0]
    assert (first["site"], pilot["groups"], pilot["sites"]) == (f"L{layer}H{head}", 8, len(sizes))
    assert abs(first["size"]) == pytest.approx(sizes.max()) == pytest.approx(abs(first["shrunken"]) / first["sd"])
    told = cli("plan", *planned, "dataset.n_examples=20", "--pilot", "pilot").out
    assert f"expected to find {pilot['finds']:g} of its {pilot['sites']} effects" in told
    assert f"{first['delta']:+.3f}" in told


def test_more_groups_find_more_of_a_pilot_and_larger_effects_need_fewer():
    sites = [{"site": str(d), "delta": d, "shrunken": d, "sd": 1.0, "size": d} for d in (2.0, 1.0, 0.5)]
    pilot = Pilot("pilot", "logit_diff", 12, sites)
    few, many = pilot.plan(10, 270), pilot.plan(40, 270)
    assert few["finds"] < many["finds"] < 3
    needed = [site["groups_needed"] for site in many["strongest"]]
    assert needed == sorted(needed)
    assert list(pilot_lines(many, 40, 270))[-2].endswith(f"{many['finds']:g} of its 3 effects,")


def test_a_pilot_without_sizes_is_refused(cli):
    kl = ("ablation.scales=[0]", "metrics.names=[kl_div]")
    assert cli(*TOY, *kl, "tracking=off", "verify=off", "hydra.run.dir=kl").code == 0
    result = cli("plan", *TOY, *kl, "--pilot", "kl")
    assert result.code == 2
    assert "no effect on kl_div with a size" in result.err
    assert cli("plan", *TOY, "--pilot", "nowhere").code == 2


@pytest.mark.parametrize("args", [("--effect", "0"), ("--effect", "-1"), ("--real", "0")])
def test_impossible_effects_are_refused(cli, args):
    result = cli("plan", *TOY, *args)
    assert result.code == 2
    assert "above 0" in result.err


def test_a_table_that_is_too_wide_for_the_terminal_has_its_names_on_lines_of_their_own(monkeypatch, capsys):
    rows = [["run", "examples", "time"], ["facts, seed 0", "20", "10 s"]]
    monkeypatch.setenv("COLUMNS", "24")
    assert list(table(rows)) == ["  run            examples  time", "  facts, seed 0        20  10 s"]  # into a pipe
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert list(table(rows)) == ["  run", "    examples  time", "  facts, seed 0", "          20  10 s"]
