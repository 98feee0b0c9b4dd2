"""Runs whose examples have several right and several wrong answers."""

import json

import pytest
import torch
from hydra import compose, initialize_config_dir

from tiny_ablation import app  # noqa: F401 (it registers the schema of every config group)
from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.config.settings import to_settings
from tiny_ablation.errors import ConfigError, DataError
from tiny_ablation.paths import conf_dir
from tiny_ablation.pipeline import run as carry_out
from tiny_ablation.report.terminal import Screen
from tiny_ablation.run.prepare import prepare_run
from tiny_ablation.run.spec import metric_names_of
from tiny_ablation.store.reader import load_run

COMMON = ("model=toy", "tracking=off", "stats.n_boot=200", "stats.n_perm=200")
RIGHT, WRONG = [" blue", " green", " white"], [" red", " black"]


@pytest.fixture
def corpus(tmp_path):
    rows = [
        {"clean": f"The sky{' is' * i} very", "target": " blue", "foil": " red", "targets": RIGHT, "foils": WRONG}
        for i in range(1, 11)
    ]
    path = tmp_path / "colours.jsonl"
    path.write_text("".join(json.dumps({**row, "group": f"g{i % 5}"}) + "\n" for i, row in enumerate(rows)))
    return f"dataset.path={path}"


def configured(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", [*COMMON, *overrides])


def prepared(*overrides):
    return prepare_run(spec(*overrides))


def spec(*overrides):
    return run_spec(to_settings(configured(*overrides)))


def finished(directory, *overrides):
    carry_out(spec(*overrides), directory, Screen(quiet=True))
    return load_run(directory)


def test_a_run_over_sets_is_the_plain_model_and_verified(tmp_path, corpus):
    overrides = ("dataset=jsonl", corpus, "ablation.scales=[0.0]", "metrics.primary=prob_diff")
    run, again = finished(tmp_path / "run", *overrides), prepared(*overrides)
    assert json.loads((tmp_path / "run/metrics/verify.json").read_text())["verdict"] == "ok"
    tokenizer, hf = again.network.model.tokenizer, again.network.hf
    right, wrong = ([tokenizer(text).input_ids[-1] for text in side] for side in (RIGHT, WRONG))
    of_site = run.per_example.groupby("example_id").first()
    accurate = []
    for tokens in again.tokens:
        with torch.inference_mode():
            p = hf(torch.tensor([tokens.clean_ids])).logits[0, -1].softmax(-1)
        expected = (p[right].sum() - p[wrong].sum()).item()
        assert of_site["prob_diff_baseline"][tokens.example.id] == pytest.approx(expected, abs=5e-5)
        accurate.append(p.argmax().item() in right)
    assert run.summary["baseline"]["accuracy"]["mean"] == pytest.approx(sum(accurate) / len(accurate))
    asked = json.loads((tmp_path / "run/provenance.json").read_text())["prompts"][0]
    assert (asked["targets"], asked["foils"]) == (sorted(right), sorted(wrong))


@pytest.mark.parametrize("ablation", ["attribution", "activation_patch", "heads_mean", "path_patch"])
def test_other_kinds_run_over_greater_than(tmp_path, ablation):
    small = ("dataset=greater_than", "dataset.n_examples=10", f"ablation={ablation}")
    summary = finished(tmp_path / "run", *small).summary
    assert summary["primary"] == "prob_diff"
    assert json.loads((tmp_path / "run/metrics/verify.json").read_text())["verdict"] == "ok"


@pytest.mark.parametrize(
    ("overrides", "first"),
    [
        (("dataset=greater_than",), "prob_diff"),
        (("dataset=greater_than", "metrics.primary=logit_diff"), "logit_diff"),
        (("dataset=greater_than", "metrics.names=[kl_div,p_drop]"), "kl_div"),
        (("dataset=facts",), "logit_diff"),
        (("dataset=facts", "metrics.span=full"), "seq_logprob_diff"),
    ],
)
def test_the_family_says_what_sites_are_ranked_by_unless_the_config_does(overrides, first):
    assert metric_names_of(to_settings(configured(*overrides)).root)[0] == first


def test_whole_answers_of_sets_are_refused(corpus):
    for dataset in ("dataset=greater_than",), ("dataset=jsonl", corpus):
        with pytest.raises(ConfigError, match=r"metrics\.span=full.*sets of answers; use metrics\.span=first"):
            spec(*dataset, "metrics.span=full")


def test_whole_answers_are_scored_where_rows_have_none(tmp_path):
    rows = [{"clean": f"The sky{' is' * i}", "target": " blue", "foil": " red"} for i in range(1, 4)]
    path = tmp_path / "mixed.jsonl"
    path.write_text(
        "".join(json.dumps({**row, **more}) + "\n" for row, more in zip(rows, ({}, {}, {"targets": RIGHT}), strict=True))
    )
    dataset = ("dataset=jsonl", f"dataset.path={path}", "metrics.span=full")
    with pytest.raises(DataError, match=r"1 of 3 examples.*row-3: it has sets of answers"):
        prepared(*dataset)
    run = prepared(*dataset, "dataset.unscorable=skip")
    assert len(run.tokens) == 2
    assert "sets of answers" in run.selection.unscorable["row-3"]
