"""`from tiny_ablation import load_run, load_sweep`, and the commands that show results, on real runs of the toy model."""

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

import tiny_ablation
from tests.cli.conftest import TOY
from tiny_ablation import load_run, load_sweep
from tiny_ablation.document import Cell
from tiny_ablation.errors import ResultsError
from tiny_ablation.report.figures import canvas
from tiny_ablation.report.sweep_data import read_sweep
from tiny_ablation.report.sweep_tables import cells
from tiny_ablation.store.checksummed_json import read_sealed, write_sealed
from tiny_ablation.store.files import read_table

GRID = ("-m", *TOY, "verify=off", "dataset=facts,sva", "dataset.n_examples=6", "seed=0,1", "hydra.sweep.dir=sweep")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep of two behaviours by two seeds."""
    place = tmp_path_factory.mktemp("finished")
    done = subprocess.run(
        [sys.executable, "-m", "tiny_ablation", *GRID], cwd=place, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return place / "sweep"


@pytest.fixture
def sweep_dir(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "sweep")


def test_a_sweep_comes_back(finished):
    sweep = load_sweep(finished)
    assert sweep.conditions == ["facts", "sva"]
    assert sweep.tables == ["head"]
    matrix = sweep.matrix()
    parts = [read_table(finished / cell.dir / "metrics" / "head_impact.parquet") for cell in sweep.plan.cells]
    assert matrix["delta"].tolist() == pd.concat(parts)["delta"].tolist()
    # The mean over seeds, by hand.
    rows = matrix[(matrix["metric"] == "logit_diff") & (matrix["scale"] == 0)]
    by_hand = rows.groupby(["condition", "layer", "head"])["delta"].mean()
    means = sweep.means("head").query("metric == 'logit_diff'").set_index(["condition", "layer", "head"])["delta"]
    pd.testing.assert_series_equal(means.sort_index(), by_hand.sort_index(), check_index_type=False)
    assert sweep.run("sva", 1).summary["seed"] == 1
    assert [run.summary["seed"] for run in sweep.runs()] == [0, 1, 0, 1]
    assert sweep.invariants["metrics"] == ["logit_diff"]


def test_what_is_not_there_is_said(finished, tmp_path):
    sweep = load_sweep(finished)
    with pytest.raises(ResultsError, match="no run of ioi, seed 0; there are facts, sva"):
        sweep.run("ioi", 0)
    with pytest.raises(ResultsError, match="no table 'layer'; there are head"):
        sweep.matrix("layer")
    with pytest.raises(ResultsError, match="is no sweep"):
        load_sweep(tmp_path)


def test_an_altered_matrix_is_found(sweep_dir):
    path = sweep_dir / "artifacts" / "cross_condition" / "head_matrix.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ResultsError, match=r"head_matrix\.parquet is altered"):
        load_sweep(sweep_dir)
    assert load_sweep(sweep_dir, check=False).conditions == ["facts", "sva"]


def test_notebooks_show_a_table_and_escape_names(finished, sweep_dir):
    html = load_sweep(finished)._repr_html_()
    assert "<b>4 of 4</b>" in html
    assert "Sweep over facts, sva" in html
    run = load_sweep(finished).run("facts", 0)
    assert f"<td>{run.summary['top'][0]['delta']:.4g}</td>" in run._repr_html_()
    assert "heads_zero" in repr(run)
    path = sweep_dir / load_sweep(sweep_dir).plan.cells[0].dir
    summary = json.loads((path / "metrics" / "summary.json").read_text())
    (path / "metrics" / "summary.json").write_text(json.dumps(summary | {"model": "<script>"}))
    assert "<script>" not in load_run(path, check=False)._repr_html_()


def test_reading_needs_no_model_library(finished):
    code = f"""
import sys
import tiny_ablation
assert not {{"pandas", "numpy", "pyarrow"}} & set(sys.modules), "the package root is light"
sweep = tiny_ablation.load_sweep({str(finished)!r})
assert len(sweep.matrix()) and len(next(sweep.runs()).impact) and sweep._repr_html_()
heavy = {{"torch", "transformers", "transformer_lens", "mlflow", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_root_names_what_it_offers():
    assert {"load_run", "load_sweep", "Run", "Sweep", "__version__"} <= set(dir(tiny_ablation))
    with pytest.raises(AttributeError, match="nothing"):
        _ = tiny_ablation.nothing


def _files(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
        and ".hydra" not in path.parts
        and ".lock" not in path.name
        and path.name != ".ledger"  # names every content that a file had, those in between as well
    }


@pytest.fixture
def as_published(published, monkeypatch):
    """The sweep's runs were drawn in processes of their own."""
    monkeypatch.setattr(canvas, "save", published)


def test_a_report_is_drawn_again_to_the_same_bytes(sweep_dir, cli, as_published):
    run = load_sweep(sweep_dir).run("facts", 0).dir.path
    before = _files(run)
    (run / "report.html").unlink()
    (run / "artifacts" / "head_map.png").unlink()
    assert cli("report", str(run)).code == 0
    assert _files(run) == before
    load_run(run)


def test_the_report_of_a_sweep_is_drawn_again_to_the_same_bytes(sweep_dir, cli, as_published):
    before = _files(sweep_dir)
    (sweep_dir / "report.html").unlink()
    done = cli("report", str(sweep_dir))
    assert (done.code, done.out.strip()) == (0, str(sweep_dir / "report.html"))
    assert _files(sweep_dir) == before


def test_a_report_refuses_what_was_altered_and_what_is_no_run(sweep_dir, cli, tmp_path):
    run = load_sweep(sweep_dir).run("facts", 0).dir
    run.summary.write_text(run.summary.read_text().replace("facts", "lies"))
    done = cli("report", str(run.path))
    assert done.code == 2
    assert "metrics/summary.json is altered" in done.err
    (tmp_path / "empty").mkdir()
    done = cli("report", "empty")
    assert (done.code, "empty is neither a run nor a sweep" in done.err) == (2, True)


def test_names_in_a_sweeps_summary_do_not_become_paths(sweep_dir, tmp_path):
    shutil.copytree(load_sweep(sweep_dir).run("facts", 0).dir.path, tmp_path / "elsewhere")
    summary = sweep_dir / "artifacts" / "cross_condition" / "summary.json"
    content = json.loads(summary.read_text())
    for cell in content["cells"]:
        cell["dir"] = "../elsewhere"
    summary.write_text(json.dumps(content))
    found = [run.dir.path for run in load_sweep(sweep_dir, check=False).runs()]
    assert found
    assert all(sweep_dir in path.parents for path in found)
    data = read_sweep(sweep_dir)
    assert all(sweep_dir in run.path.parents for run in data.finished)
    links = [cell.link for row in cells(data).rows for cell in row if isinstance(cell, Cell)]
    assert links
    assert not any(".." in link for link in links)


@pytest.mark.parametrize("name", ["artifacts", "artifacts/cross_condition", "report.html"])
def test_nothing_is_written_through_a_link_out_of_the_directory(sweep_dir, cli, tmp_path, name):
    outside = tmp_path / "outside"
    shutil.move(sweep_dir / name, outside)
    (sweep_dir / name).symlink_to(outside)
    before = _files(outside) if outside.is_dir() else outside.read_bytes()
    for word in ("aggregate", "report"):
        done = cli(word, str(sweep_dir))
        assert (done.code, "is a link out of" in done.err) == (2, True)
    assert (_files(outside) if outside.is_dir() else outside.read_bytes()) == before


def test_the_state_of_a_sweep_does_nothing_to_the_terminal(sweep_dir, cli):
    manifest = load_sweep(sweep_dir).run("facts", 0).dir.manifest
    write_sealed(manifest, read_sealed(manifest) | {"status": "failed", "error": "\x1b[2J\x07gone"})
    done = cli("status", str(sweep_dir))
    assert "?[2J?gone" in done.out
    assert all(line.isprintable() for line in done.out.splitlines())


def test_open_shows_the_page(sweep_dir, cli, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", lambda page: shown.append(page) or True)
    run = load_sweep(sweep_dir).run("sva", 0).dir
    assert cli("report", str(run.path), "--open").code == 0
    assert shown == [run.report.resolve().as_uri()]
