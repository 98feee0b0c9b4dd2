"""Rows without a foil: measured by what compares the target with nothing, refused by what does."""

import json

import pandas as pd
import pytest

from tiny_ablation.engine.prompts import Prompt, sequences
from tiny_ablation.metrics.registry import metric, metric_names

TOY = (
    "model=toy",
    "tracking=off",
    "verify=cpu",
    "device.threads=1",
    "stats.n_boot=100",
    "stats.n_perm=100",
    "hydra.run.dir=run",
    "dataset=file",
    "dataset.path=rows.csv",
)
NEED = {"logit_diff", "prob_diff", "seq_logprob_diff", "seq_logprob_diff_norm"}
FREE = {"first": "p_drop,acc_flip_rate,acc_gain_rate,entropy,kl_div", "full": "seq_p_drop,seq_acc_flip_rate,seq_kl_mean"}
PROMPTS = ["a b c", "c a b", "b c a", "g a c", "a g b", "c g a"]
ANSWERS = [" d", " e", " f"]


@pytest.fixture
def rows(tmp_path):
    def write(foils, longer=""):
        frame = pd.DataFrame({"clean": PROMPTS, "target": [ANSWERS[i % 2] + longer for i in range(6)], "foil": foils})
        frame.to_csv(tmp_path / "rows.csv", index=False)
        return tmp_path

    return write


def test_the_metrics_that_compare_with_a_foil_say_so():
    assert {name for name in metric_names() if metric(name).needs_foil} == NEED


@pytest.mark.parametrize(("span", "longer"), [("first", ""), pytest.param("full", " a b", marks=pytest.mark.slow)])
def test_numbers_are_those_of_the_same_rows_with_foils(cli, rows, span, longer):
    """What needs no foil does not look at it, and half of the rows may lack theirs."""
    measure = (*TOY, f"metrics.span={span}", f"metrics.names=[{FREE[span]}]", "ablation=heads_zero", "ablation.scales=[0.0]")
    found = []
    for foils in ([" f"] * 6, [" f", None] * 3, [None] * 6):
        place = rows(foils, longer)
        result = cli(*measure, "resume=false", f"hydra.run.dir=run{len(found)}")
        assert result.code == 0, result.err
        found.append(pd.read_parquet(place / f"run{len(found)}/metrics/head_impact.parquet"))
        summary = json.loads((place / f"run{len(found) - 1}/metrics/summary.json").read_text())
        assert "preference" not in summary["baseline"]
        assert summary["primary"] == FREE[span].partition(",")[0]
    for other in found[1:]:
        columns = ["layer", "head", "metric", "value", "baseline", "delta"]
        pd.testing.assert_frame_equal(other[columns], found[0][columns], atol=1e-6)


@pytest.mark.parametrize(
    ("span", "override", "needing", "works"),
    [
        ("first", (), "logit_diff, prob_diff", f"'metrics.names=[{FREE['first']}]'"),
        ("full", (), "seq_logprob_diff, seq_logprob_diff_norm", f"'metrics.names=[{FREE['full']}]'"),
        ("first", ("metrics.names=[kl_div,prob_diff]",), "and prob_diff compare", "'metrics.names=[kl_div]'"),
        ("first", ("metrics.names=[logit_diff]",), "and logit_diff compare", f"'metrics.names=[{FREE['first']}]'"),
        ("first", ("metrics.primary=prob_diff",), "prob_diff, logit_diff", f"[{FREE['first']}]' metrics.primary=p_drop"),
    ],
)
def test_what_needs_a_foil_is_named_with_what_works(cli, rows, span, override, needing, works):
    rows([" f", None, " f", " f", None, " f"])
    run = (*TOY, f"metrics.span={span}", "ablation=heads_zero", "ablation.scales=[0.0]")
    result = cli(*run, *override)
    assert result.code == 2
    assert "2 of 6 rows of rows have no foil (row-2, row-5)" in result.err
    assert needing in result.err
    assert works in result.err
    said = [each.strip("'") for each in result.err.split("needs none: ")[1].split()]
    assert cli(*run, *said).code == 0


def test_estimates_of_the_logit_difference_are_refused(cli, rows):
    rows([" f"] * 5 + [None])
    screened = ("ablation.screen=attribution", "ablation.screen_top=2", "metrics.names=[p_drop]")
    result = cli(*TOY, "ablation=heads_zero", *screened)
    assert result.code == 2
    assert "compares the target with a foil, and 1 examples have none: row-6" in result.err


def test_what_is_kept_as_correct_may_need_one(cli, rows):
    rows([None] * 6, " a")
    result = cli(*TOY, "metrics.span=full", "metrics.names=[seq_p_drop]", "dataset.keep=correct")
    assert result.code == 2
    assert "dataset.keep=correct: with metrics.span=full" in result.err


@pytest.mark.parametrize("span", ["first", "full"])
def test_the_baseline_of_a_data_set_is_shown_without_a_comparison(cli, rows, span):
    rows([None] * 6, " a" if span == "full" else "")
    names = f"metrics.names=[{FREE[span]}]"
    args = ("data", "model=toy", "dataset=file", "dataset.path=rows.csv", f"metrics.span={span}", names, "--baseline")
    shown, found = cli(*args), json.loads(cli(*args, "--json").out)
    assert shown.code == 0, shown.err
    assert "not compared (rows without foil)" in shown.out
    assert "target > foil" not in shown.out
    assert " not " not in shown.out.split("clean  ")[1].splitlines()[0]
    begins = "begins the target" if span == "full" else "is the target"
    assert begins in found["baseline"]["accuracy_means"]


def test_no_pass_is_run_for_a_foil_that_is_not_there():
    assert len(sequences([Prompt((1, 2), (3, 4), (), {}, "x")], full=True)) == 1
