"""Which of the drawn examples are measured, and what the summary says about the others."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.ablations.single_site import HeadsScaleConfig
from tiny_ablation.config.model_options import model_option
from tiny_ablation.config.schema import (
    DatasetConfig,
    Keep,
    MetricsConfig,
    ModelConfig,
    ModelSource,
    RootConfig,
    Span,
    StatsConfig,
    Unscorable,
)
from tiny_ablation.config.settings import to_settings
from tiny_ablation.errors import ConfigError, DataError
from tiny_ablation.run.baseline import baseline, by_template, is_weak, verdict
from tiny_ablation.run.measure import executors, measure
from tiny_ablation.run.prepare import prepare_run
from tiny_ablation.run.summary import run_summary
from tiny_ablation.run.tables import run_tables
from tiny_ablation.store.rundir import RunDir


def prepared(dataset, span=Span.first):
    root = RootConfig(
        model=ModelConfig(name="toy", source=ModelSource.toy),
        dataset=dataset,
        metrics=MetricsConfig(span=span),
        ablation=HeadsScaleConfig(kind="heads_zero", layers=[0], heads=[0]),
        stats=StatsConfig(n_boot=200, n_perm=200),
    )
    return prepare_run(run_spec(to_settings(OmegaConf.structured(root))))


def summary(run, directory):
    measured = measure(run, RunDir(directory), executors(run), lambda _n: None)
    return SimpleNamespace(measured=measured, **run_summary(run, measured, run_tables(run, measured)))


def facts(n=40, **keys):
    return DatasetConfig(name="facts", family="facts", n_examples=n, **keys)


@pytest.fixture
def mixed(tmp_path):
    """Twelve rows in four groups that the toy tokenizer serves, and three with answers of two tokens."""
    rows = [{"clean": f"The sky {'is ' * i}", "target": " blue", "foil": " red", "group": f"g{i % 4}"} for i in range(1, 13)]
    rows += [{"clean": f"The flag {'is ' * i}", "target": " blue red", "foil": " red", "group": "long"} for i in range(1, 4)]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps({**row, "clean": row["clean"].strip()}) + "\n" for row in rows))

    def config(**keys):
        return DatasetConfig(name="mixed", family="file", path=str(path), **keys)

    return config


def test_the_clean_pass_is_the_plain_model():
    run = prepared(facts())
    found = baseline(run.network, run.tokens, Span.first, 128)
    for i, tokens in enumerate(run.tokens):
        with torch.inference_mode():
            logits = run.network.hf(torch.tensor([tokens.clean_ids])).logits[0, -1]
        assert found.measured["logit_diff"][i] == pytest.approx(
            (logits[tokens.target_ids[0]] - logits[tokens.foil_ids[0]]).item(), abs=5e-5
        )
        assert found.correct[i] == (logits.argmax().item() == tokens.target_ids[0])


def test_keep_correct_keeps_what_the_model_gets_right(tmp_path):
    everything = prepared(facts(), Span.full)
    right = baseline(everything.network, everything.tokens, Span.full, 2048).preferred["preference"]
    assert 0 < right.sum() < 40
    run = prepared(facts(keep=Keep.correct), Span.full)
    ids = [t.example.id for t, ok in zip(everything.tokens, right, strict=True) if ok]
    assert [t.example.id for t in run.tokens] == ids
    told = summary(run, tmp_path)
    assert told.kept["ids"] == ids
    assert (told.kept["n_before"], told.kept["n_kept"]) == (40, len(ids))
    assert told.baseline["accuracy"]["mean"] == 1.0
    assert told.n_examples == len(ids)
    assert any(f"{len(ids)} of 40" in text for text in told.warnings)


def test_keep_is_part_of_what_a_run_is():
    assert prepared(facts(), Span.full).identity.run_id != prepared(facts(keep=Keep.correct), Span.full).identity.run_id


def test_a_model_that_gets_nothing_right():
    with pytest.raises(DataError, match=r"keep=correct: toy gets none of the 16"):
        prepared(facts(16, keep=Keep.correct))


def test_rows_of_your_own_file_are_refused_unless_skipped(mixed, tmp_path):
    with pytest.raises(DataError, match=r"3 of 15 examples.*row-13"):
        prepared(mixed())
    told = summary(prepared(mixed(unscorable=Unscorable.skip)), tmp_path)
    assert told.n_examples == 12
    assert told.unscorable["count"] == 3
    assert sorted(told.unscorable["rows"]) == ["row-13", "row-14", "row-15"]
    assert any("3 rows cannot be scored" in text for text in told.warnings)


def test_rows_that_cannot_be_served_are_replaced_by_the_next_of_the_draw(mixed):
    run = prepared(mixed(unscorable=Unscorable.skip, n_examples=10))
    assert len(run.tokens) == 10
    with pytest.raises(DataError, match="12 of which can be used"):
        prepared(mixed(unscorable=Unscorable.skip, n_examples=13))


def test_nothing_is_skipped_where_whole_answers_are_scored(mixed, tmp_path):
    told = summary(prepared(mixed(), Span.full), tmp_path)
    assert told.n_examples == 15
    assert told.unscorable == {"count": 0, "rows": {}}


def test_common_rows_must_be_served_by_every_model(mixed):
    """Naming models means that rows which one of them cannot serve are skipped, also in a file of yours."""
    run = prepared(mixed(common_rows=["toy"]))
    assert len(run.tokens) == 12
    assert all("toy" in reason for reason in run.selection.unscorable.values())


def test_common_rows_without_a_sweep():
    for asked, words in ((True, "single run"), ("toy", "list of model options"), (["nope"], "there is no model=nope")):
        with pytest.raises(ConfigError, match=words):
            prepared(facts(common_rows=asked))


def test_a_model_option_is_what_its_file_says():
    assert model_option("toy") == ModelConfig(name="toy", source=ModelSource.toy, shape="llama")


def test_baseline_by_template(tmp_path):
    run = prepared(facts(60))
    told = summary(run, tmp_path)
    rows = told.baseline_by_template
    assert sum(row["n"] for row in rows) == 60
    assert [row["template"] for row in rows] == sorted({t.example.template for t in run.tokens})
    diff = told.measured[0].baseline["logit_diff"]
    for row in rows:
        mine = [i for i, t in enumerate(run.tokens) if t.example.template == row["template"]]
        assert row["logit_diff"] == pytest.approx(diff[mine].mean())
        assert row["preference"] == pytest.approx((diff[mine] > 0).mean())
    assert any("not clearly above the chance of 50%" in text for text in told.warnings)


def test_means_per_template_by_hand():
    assert by_template(["b", "a", "b"], {"x": np.array([1.0, 5.0, 2.0])}) == [
        {"template": "a", "n": 1, "x": 5.0},
        {"template": "b", "n": 2, "x": 1.5},
    ]


@pytest.mark.parametrize(
    ("low", "high", "said", "weak"),
    [
        (0.8, 0.9, "well above chance", False),
        (0.55, 0.9, "above chance", True),
        (0.62, 0.9, "above chance", False),
        (0.4, 0.6, "at chance", True),
        (0.1, 0.4, "below chance", True),
        (float("nan"), float("nan"), "unknown (one group)", False),
    ],
)
def test_verdicts(low, high, said, weak):
    preference = {"mean": 0.7, "ci_low": low, "ci_high": high}
    assert verdict(preference) == said
    assert is_weak(preference) is weak
