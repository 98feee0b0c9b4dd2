import pytest

from tests.cli.conftest import TOY
from tiny_ablation.errors import ResultsError
from tiny_ablation.store.manifest import write_manifest
from tiny_ablation.store.reader import load_run
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.tracking import record
from tiny_ablation.tracking.record import _alone, read_record


def test_config_numbers_and_tags_are_flat(make_run, tmp_path):
    found = read_record(make_run(tmp_path))
    assert found.params == {"model.name": "toy", "seed": "3", "ablation.heads": "[0, 1]"}
    assert found.metrics == {"metrics.logit_diff.mean": 0.25, "n _examples_": 16.0}
    assert found.tags["tiny_ablate.git"] == "c0ffee-dirty"
    assert found.tags["tiny_ablate.run_dir"] == str(tmp_path)
    assert found.ended_ms - found.started_ms == 60_000


def test_no_password_is_told(make_run, tmp_path):
    assert "pw" not in str(read_record(make_run(tmp_path)).params)


def test_large_files_stay_where_they_are(make_run, tmp_path, monkeypatch):
    make_run(tmp_path)
    files = {"manifest.json", "provenance.json", "artifacts/heatmap.png", "metrics/summary.json", "config.yaml"}
    assert set(read_record(tmp_path).files) == files
    monkeypatch.setattr(record, "_LARGEST_FILE", 3)
    assert set(read_record(tmp_path).files) == {"manifest.json", "provenance.json", "artifacts/heatmap.png"}


def test_a_run_that_failed_early_has_a_record(tmp_path):
    write_manifest(RunDir(tmp_path), run_id="abc", status="failed", digest="d", covers={}, error="boom")
    found = read_record(tmp_path)
    assert (found.status, found.params, found.metrics, found.files) == ("failed", {}, {}, ("manifest.json",))


def test_an_altered_run_is_not_told(make_run, tmp_path):
    (make_run(tmp_path) / "metrics" / "summary.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"metrics/summary\.json is altered"):
        read_record(tmp_path)


def test_names_strongest_effects_and_layers_read(cli, tmp_path):
    assert cli(*TOY, "verify=off", "hydra.run.dir=run").code == 0
    run = load_run(tmp_path / "run")
    found = read_record(tmp_path / "run")
    assert found.name == "toy/facts/heads_zero/s0"
    assert not {"schema", "seed", "confidence"} & set(found.metrics)
    first = run.summary["top"][0]
    assert found.metrics[f"effect.L{first['layer']}H{first['head']}"] == first["delta"]
    rows = run.impact.query("metric == 'logit_diff' and layer == 1")
    assert found.curves["layer.logit_diff.mean"][1] == pytest.approx(rows["delta"].mean())
    assert abs(found.curves["layer.logit_diff.largest"][1]) == rows["delta"].abs().max()
    assert {"report.html", "artifacts/head_map.png"} <= set(found.files)
    # what shows nothing alone: the pages of figures, without their 5 MB of plotly.js
    assert (run.dir.artifacts / "head_map.html").is_file()
    assert [name for name in found.files if name.startswith("artifacts") and name.endswith((".html", ".js"))] == []


def test_two_directions_have_curves_and_names_of_their_own(cli, tmp_path):
    patch = ("ablation=activation_patch", "ablation.granularity=attn_out", "ablation.direction=both", "dataset.n_examples=8")
    assert cli(*TOY, "verify=off", *patch, "hydra.run.dir=run").code == 0
    impact, found = load_run(tmp_path / "run").impact.query("metric == 'logit_diff'"), read_record(tmp_path / "run")
    directions = set(impact["direction"])
    assert len(directions) == 2
    for direction in directions:
        rows = impact[(impact["direction"] == direction) & (impact["layer"] == 1)]
        assert found.curves[f"layer.logit_diff.mean.{direction}"][1] == pytest.approx(rows["delta"].mean())
        assert found.metrics[f"effect.L1 attn_out.{direction}"] in set(rows["delta"])


def test_curves_are_of_the_strongest_factor(cli, tmp_path):
    assert cli(*TOY, "verify=off", "ablation.scales=[0.0,0.5]", "hydra.run.dir=run").code == 0
    rows = load_run(tmp_path / "run").impact.query("metric == 'logit_diff' and layer == 1 and scale == 0")
    assert read_record(tmp_path / "run").curves["layer.logit_diff.mean"][1] == pytest.approx(rows["delta"].mean())


@pytest.mark.slow
def test_a_sweep_has_parameters_and_a_duration(cli, tmp_path):
    assert cli("-m", *TOY, "verify=off", "dataset=facts,negation", "seed=0,1", "hydra.sweep.dir=sweep").code == 0
    found = read_record(tmp_path / "sweep")
    assert found.name == "sweep: facts, negation; 2 seeds"
    assert (found.params["dataset"], found.params["model"]) == ("facts, negation", "toy")
    assert found.ended_ms > found.started_ms


def test_pages_are_published_that_show_something_by_themselves():
    figure = {f"artifacts/forest.{suffix}" for suffix in ("html", "png", "svg", "pdf")}
    panel = {"artifacts/feature_panel.html", "artifacts/feature_panel.png"}
    found = _alone({*figure, *panel, "artifacts/plotly.min.js"})
    assert found == sorted({*figure, *panel} - {"artifacts/forest.html"})
