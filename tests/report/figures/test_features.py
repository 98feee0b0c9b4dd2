"""The feature panel and the map, from tables that were written by hand."""

import json

import pandas as pd
import pytest

from tests.report.conftest import HOSTILE
from tiny_ablation.report.figures.feature_data import feature_cards, has_features, shown_token
from tiny_ablation.report.figures.of_run import write_figures
from tiny_ablation.run.result import Result
from tiny_ablation.store.files import write_table
from tiny_ablation.store.rundir import RunDir


def effect(feature, delta, condition="facts"):
    return {
        "run_id": "r",
        "seed": 0,
        "layer": 3,
        "feature": feature,
        "scale": 0.0,
        "metric": "logit_diff",
        "value": delta,
        "condition": condition,
        "delta": delta,
        "ci_low": delta - 0.1,
        "ci_high": delta + 0.1,
        "baseline": 0.0,
        "q_value": 0.5,
        "direction": "clean",
        "n": 8,
        "replacement": "zero",
    }


@pytest.fixture
def run_dir(tmp_path):
    facts = {
        "run_id": "r",
        "seed": 0,
        "layer": 3,
        "chosen_by": "attribution",
        "attribution": 0.2,
        "frequency_text": 0.01,
        "frequency_prompts": 0.5,
        "difference": 0.1,
        "percentile_random": 90.0,
        "largest": 4.0,
        "histogram": json.dumps([8, 4, 0, 1]),
        "promoted": json.dumps([[HOSTILE, 2.0]]),
        "suppressed": json.dumps([[" no", -1.0]]),
    }
    metrics = tmp_path / "metrics"
    write_table(metrics / "features.parquet", pd.DataFrame([{**facts, "feature": n} for n in (5, 9)]))
    text = {"feature": 9, "rank": 0, "tokens": json.dumps(["a", " b\n", "<i>"]), "activations": json.dumps([0, 4.0, 1.0])}
    write_table(metrics / "feature_examples.parquet", pd.DataFrame([{"run_id": "r", "seed": 0, **text}]))
    places = pd.DataFrame({"feature": range(10), "x": range(10), "y": range(10), "frequency_text": 0.1, "method": "PCA"})
    write_table(metrics / "feature_map.parquet", places)
    return tmp_path


@pytest.fixture
def source(run_dir):
    impact = pd.DataFrame([effect(5, 0.05), effect(9, -1.5), effect(9, 0.4, "ioi")])
    summary = {"primary": "logit_diff", "kind": "sae_toggle", "model": f"a model {HOSTILE}", "dataset": "facts"}
    return Result(RunDir(run_dir), impact, summary)


def test_cards_are_by_effect_and_hold_every_condition(source):
    first, second = feature_cards(source)
    assert (first.number, second.number) == (9, 5)
    assert [(e.condition, e.delta, e.resolved) for e in first.effects] == [("facts", -1.5, True), ("ioi", 0.4, True)]
    assert not second.effects[0].resolved
    assert first.examples == [[("a", 0), (" b\n", 4.0), ("<i>", 1.0)]]
    assert second.examples == []
    assert has_features(source)


def draw(source, name):
    write_figures(source.run.path, source.impact, source.summary)
    artifacts = source.run.artifacts
    return (artifacts / f"{name}.html").read_text(), (artifacts / f"{name}.png").read_bytes()


def test_the_panel_shades_by_activation_and_escapes_what_models_say(source):
    page, png = draw(source, "feature_panel")
    assert "<script>alert" not in page
    assert "&lt;i&gt;" in page
    assert 'style="background: rgba(47,107,168,0.6)" title="4"> b' in page  # the largest
    assert 'style="background: rgba(47,107,168,0.15)" title="1">&lt;i&gt;' in page  # a quarter of it
    assert "<span>a</span>" in page
    assert page.index("Feature 9") < page.index("Feature 5")
    assert "-1.50" in page
    assert "active nowhere" in page
    assert (page, png) == draw(source, "feature_panel")


def test_the_map_has_every_feature_and_the_measured_ones_in_colour(source):
    page, png = draw(source, "feature_map")
    assert png.startswith(b"\x89PNG")
    assert "<script>alert" not in page
    assert "PCA of 10 decoder directions" in page
    figure = json.loads(page.split('data-figure="feature-map">')[1].split("</script>")[0])
    rest, resolved, unsure = figure["data"]
    assert len(rest["customdata"]) == 10
    assert [row[0] for row in resolved["customdata"]] == [9]
    assert resolved["marker"]["color"] == [-1.5]
    assert [row[0] for row in unsure["customdata"]] == [5]  # its interval includes 0: no colour
    assert unsure["marker"]["symbol"] == "circle-open"
    assert figure["layout"]["coloraxis"]["cmin"] == -1.5
    assert "change in logit_diff (logits)" in page
    assert (page, png) == draw(source, "feature_map")


def test_tokens_can_be_seen():
    assert shown_token("\n") == "↵"
    assert shown_token("") == "□"
    assert shown_token(" word") == " word"
