import re

import pandas as pd
import pytest

from tests.ledgers import adopt
from tiny_ablation.errors import ResultsError
from tiny_ablation.store.files import write_json, write_table, write_text
from tiny_ablation.store.manifest import write_manifest
from tiny_ablation.store.reader import as_html, load_run
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import conform


@pytest.fixture
def run_path(tmp_path, head_rows):
    run = RunDir(tmp_path)
    write_table(run.table("head_impact"), conform(head_rows(), "head_impact"))
    write_table(run.per_example, pd.DataFrame({"example_id": ["a", "b"]}))
    write_json(run.summary, {"metrics": {}})
    write_text(run.config, "seed: 3\nlr: 1e-5\nsecret: ${oc.env:HOME}\n")
    adopt(run.path)
    write_manifest(run, run_id="abc", status="ok", digest="d", covers={})
    return tmp_path


def test_a_run_comes_back(run_path, head_rows):
    run = load_run(run_path)
    assert run.manifest.run_id == "abc"
    assert run.summary == {"metrics": {}}
    assert run.table_name == "head_impact"
    pd.testing.assert_frame_equal(run.impact, conform(head_rows(), "head_impact"))
    assert run.per_example["example_id"].tolist() == ["a", "b"]


def test_config_is_never_resolved(run_path):
    assert load_run(str(run_path)).config == {"seed": 3, "lr": 1e-5, "secret": "${oc.env:HOME}"}


def test_one_flipped_byte_is_found(run_path):
    table = run_path / "metrics" / "head_impact.parquet"
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)
    with pytest.raises(ResultsError, match=r"metrics/head_impact\.parquet is altered\. Run again"):
        load_run(run_path)
    assert load_run(run_path, check=False).manifest.status == "ok"


def test_a_notebook_shows_what_is_nothing_as_zero():
    html = as_html("t", {}, ["shrunken"], [[-1.2e-69], [0.25], [float("nan")]])
    assert re.findall("<td>(.*?)</td>", html) == ["0", "0.25", "nan"]


@pytest.mark.parametrize("content", ["[]", "null", '{"primary": 3}', '{"baseline": {"a": 1}, "top": {}}'])
def test_a_summary_that_no_run_writes_is_told_in_a_notebook(run_path, content):
    write_text(RunDir(run_path).summary, content)
    with pytest.raises(ResultsError, match=r"holds (a file that no run of this version writes|no JSON object)"):
        load_run(run_path, check=False)._repr_html_()


def test_a_run_without_tables_says_so(tmp_path):
    write_manifest(RunDir(tmp_path), run_id="a", status="failed", digest="d", covers={}, error="x")
    with pytest.raises(ResultsError, match="holds no impact table; the run is failed"):
        _ = load_run(tmp_path).impact


def test_a_table_with_a_column_gone(run_path, head_rows):
    write_table(run_path / "metrics" / "head_impact.parquet", head_rows().drop(columns="delta"))
    with pytest.raises(ResultsError, match="has no column 'delta'"):
        _ = load_run(run_path, check=False).impact


_BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
    for a, b in zip("abcdefghijklm", "bcdefghijklmn", strict=True)
)


@pytest.mark.parametrize(
    "text",
    ["a: [", "- 1\n", "a: ${", "!!python/object:os.system {}", "\x00", _BOMB, f"a: {'[' * 3000}", "a: b\n" + "  \n" * 3 + "*x"],
)
def test_a_damaged_config(run_path, text):
    write_text(run_path / "config.yaml", text)
    with pytest.raises(ResultsError):
        _ = load_run(run_path, check=False).config


def test_only_an_effect_that_is_shrunken_to_nothing_is_shown_as_0():
    shown = as_html("t", {}, ["p_value", "shrunken"], [(1e-15, 1e-15)])
    assert "<td>1e-15</td><td>0</td>" in shown
