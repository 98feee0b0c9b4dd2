import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tests.report.sweeps import write_sweep
from tests.sweep.analysis.test_robustness import MEAN, ZERO, run
from tiny_ablation.errors import ResultsError
from tiny_ablation.report.sweep_data import read_sweep
from tiny_ablation.report.sweep_page import write_sweep_report
from tiny_ablation.sweep.analysis.robustness import robustness, robustness_lines

STEM = "head_logit_diff_smollm2_135m"


class _Text(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.said, self.inside = [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside += tag in ("script", "style")

    def handle_endtag(self, tag):
        self.inside -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.inside:
            self.said.append(data)


def _words(path):
    return " ".join(" ".join(_Text(path.read_text(encoding="utf-8")).said).split())


@pytest.fixture(scope="module")
def nine(tmp_path_factory):
    """Three conditions by three seeds, as large as the default model."""
    directory = write_sweep(tmp_path_factory.mktemp("nine"))
    write_sweep_report(directory)
    return directory


def test_the_first_screen_names_what_is_conserved(nine):
    entry = json.loads((nine / "artifacts" / "cross_condition" / "invariants.json").read_text())["sets"][0]
    said = _words(nine / "report.html")
    # The generator plants heads 4 and 135 of 270 in every condition.
    assert [(m["layer"], m["head"]) for m in entry["members"]] == [(0, 4), (15, 0)]
    assert "2 attention heads are among the 10 strongest of all 3 conditions: L0H4, L15H0." in said
    assert "p <0.001 for a result as large or larger" in said
    assert "if each condition's set is drawn at random from all components" in said
    assert "Kendall's W is 0.61" in said


def test_numbers_in_the_sentences_are_those_of_the_tables(nine):
    means = pd.read_parquet(nine / "artifacts" / "cross_condition" / "head_means.parquet")
    mine = means[(means["layer"] == 0) & (means["head"] == 4)].set_index("condition")["delta"]
    told = ", ".join(f"{mine[name]:+.3f} in {name}" for name in ("facts", "negation", "ioi"))
    assert f"L0H4 changes logit_diff (logits) by {told}." in _words(nine / "report.html")


def test_a_second_call_gives_the_same_bytes(nine):
    files = sorted(path for path in nine.rglob("*") if path.suffix in (".html", ".png", ".js"))
    before = [path.read_bytes() for path in files]
    write_sweep_report(nine)
    assert [path.read_bytes() for path in files] == before
    assert len(files) == 14  # described figures, twice; plotly.js once; the page


def test_the_page_is_below_three_megabytes_and_fetches_nothing(nine):
    text = (nine / "report.html").read_text(encoding="utf-8")
    assert len(text) < 3_000_000
    assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?!data:)([^"]*)"', text) == []
    assert re.findall(r'data-plotly="([^"]*)"', text) == ["artifacts/cross_condition/plotly.min.js"]


def test_the_table_has_every_site_with_its_mean_in_every_condition(nine):
    text = (nine / "report.html").read_text(encoding="utf-8")
    table = re.search(r'id="sites-[^"]*">.*?<tbody>(.*?)</tbody>', text, re.S)[1]
    rows = [re.findall(r'data-v="([^"]*)"', row) for row in table.split("<tr")[1:]]
    assert len(rows) == 270
    found = {(int(float(r[0])), int(float(r[1]))): [float(v) for v in r[4:]] for r in rows}
    means = pd.read_parquet(nine / "artifacts" / "cross_condition" / "head_means.parquet")
    wide = means.pivot(index=["layer", "head"], columns="condition", values="delta")
    for site, values in found.items():
        assert values == wide.loc[site, ["facts", "negation", "ioi"]].tolist()
    assert [row[2] for row in rows[:3]] == ["1.0", "1.0", "0.0"]  # invariants first


def test_no_more_than_chance_is_said_and_not_called_conserved(tmp_path):
    directory = write_sweep(tmp_path / "s", layers=4, heads=3, k=4)
    path = directory / "artifacts" / "cross_condition" / "invariants.json"
    content = json.loads(path.read_text())
    content["sets"][0]["chance"][0] |= {"beyond_chance": False, "p_value": 0.4}
    path.write_text(json.dumps(content))
    said = _words(write_sweep_report(directory))
    assert "which is no more than chance would give" in said
    assert "no more alike than chance" in said


def test_a_top_set_of_everything_is_no_finding(tmp_path):
    said = _words(write_sweep_report(write_sweep(tmp_path / "s", layers=2, heads=2, k=4)))
    assert (
        "4 attention heads are among the 4 strongest of all 3 conditions, since a top set of that size holds every one" in said
    )
    assert "draws of other examples" not in said


def test_nothing_in_common_is_said(tmp_path):
    directory = write_sweep(tmp_path / "s", layers=4, heads=3, k=4)
    path = directory / "artifacts" / "cross_condition" / "invariants.json"
    content = json.loads(path.read_text())
    content["sets"][0] |= {"members": [], "size": 0}
    for overlap, more in ((0, "."), (1, "; 1 is, but its effect is unresolved.")):
        content["sets"][0]["overlap"] = overlap
        path.write_text(json.dumps(content))
        said = _words(write_sweep_report(directory))
        assert "No attention head with an effect is among the 4 strongest of all 3 conditions" in said
        assert f"facts, negation, ioi{more}" in said


def test_failed_runs_are_named_and_counted(tmp_path):
    said = _words(write_sweep_report(write_sweep(tmp_path / "s", layers=3, heads=2, k=3, failed=("ioi/s1",))))
    assert "1 of 9 runs failed, and are in no number here: ioi seed 1." in said
    assert "8 of 9 runs" in said
    assert "no prompt can be scored" in said


def test_one_condition_is_no_comparison(tmp_path):
    directory = write_sweep(tmp_path / "s", ("facts",), layers=3, heads=2, k=3)
    assert "One condition only (facts): nothing can be conserved between conditions." in _words(write_sweep_report(directory))
    assert not list(directory.rglob("overlap_*"))
    assert not list(directory.rglob("agreement_*"))


def test_seeds_that_are_one_measurement_show_the_interval_over_examples(tmp_path):
    directory = write_sweep(tmp_path / "s", layers=3, heads=2, k=3, replicates=False)
    data = read_sweep(directory).comparisons[0]
    assert {*data.intervals} == {"examples"}
    means = pd.read_parquet(directory / "artifacts" / "cross_condition" / "head_means.parquet")
    np.testing.assert_array_equal(data.low[2], means.loc[means["condition"] == "ioi", "ci_low"])
    assert "they are one measurement" in _words(write_sweep_report(directory))


def test_seeds_are_said_to_be_more_examples(tmp_path):
    directory = write_sweep(tmp_path / "s", layers=3, heads=2, k=3)
    assert {*read_sweep(directory).comparisons[0].intervals} == {"examples of 3 seeds"}
    said = _words(write_sweep_report(directory))
    assert "Intervals are over the examples of all seeds" in said
    assert "Student" not in said


def test_layers_and_their_granularities_are_drawn(tmp_path):
    directory = write_sweep(tmp_path / "s", table="layer", layers=6, heads=2, k=3)
    assert "1 component is among the 3 strongest of all 3 conditions" in _words(write_sweep_report(directory))
    names = {path.name for path in (directory / "artifacts" / "cross_condition").glob("*.png")}
    assert "layers_layer_logit_diff_smollm2_135m.png" in names
    assert not any(name.startswith("heads_") for name in names)


def test_hypotheses_have_their_verdict_and_null(tmp_path):
    tested = {
        "name": "early",
        "test": "effect_in_all",
        "metric": "logit_diff",
        "statement": "head 0.4 hurts everywhere",
        "null": "the mean is 0",
        "p_value": 0.0004,
        "q_value": 0.0008,
        "supported": True,
        "notes": [],
    }
    untested = {
        "name": "late",
        "test": "effect_in_all",
        "metric": "logit_diff",
        "statement": None,
        "null": None,
        "p_value": None,
        "q_value": None,
        "supported": None,
        "notes": ["not tested: no run finished"],
    }
    said = _words(write_sweep_report(write_sweep(tmp_path / "s", layers=3, heads=2, k=3, hypotheses=(tested, untested))))
    assert "early head 0.4 hurts everywhere supported <0.001 <0.001 the mean is 0" in said
    assert "late not tested: no run finished not tested - -" in said


def test_names_from_files_stay_text(tmp_path, fake):
    directory = write_sweep(tmp_path / "s", ("facts", fake.hostile.replace("/", "")), (0,), layers=3, heads=2, k=3)
    text = write_sweep_report(directory).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text


@pytest.fixture(scope="module")
def several_ways(tmp_path_factory):
    """A sweep of two ways to intervene: L0H0, L0H3 and L1H0 have one sign in both."""
    directory = write_sweep(tmp_path_factory.mktemp("robust"), layers=2, heads=4, k=3)
    found = robustness([run("zero", ZERO), run("mean", MEAN)], k=3)
    cross = directory / "artifacts" / "cross_condition"
    found.heads.to_parquet(cross / "robustness_heads.parquet", index=False)
    (cross / "robustness.json").write_text(json.dumps(found.summary))
    write_sweep_report(directory)
    return directory, found


def test_several_ways_of_intervening_have_a_section(several_ways):
    directory, found = several_ways
    said = _words(directory / "report.html")
    assert "heads that hold however one intervenes 3 of 8" in said
    for line in robustness_lines(found.summary):
        assert line in said
    text = (directory / "report.html").read_text(encoding="utf-8")
    assert 'data-figure="robustness"' in text
    assert (directory / "artifacts/cross_condition/robustness.png").is_file()
    table = re.search(r'id="robust-heads">.*?<tbody>(.*?)</tbody>', text, re.S)[1]
    rows = [re.findall(r'<td(?: class="(\w*) ?(\w*)")?[^>]*>([^<]*)</td>', row) for row in table.split("<tr")[1:]]
    names = [f"delta/{name}" for name in found.summary["conditions"]]
    by_head = found.heads.set_index(["layer", "head"])
    assert len(rows) == 8
    assert [row[2][2] for row in rows] == ["yes"] * 3 + [""] * 5
    for row in rows:
        head = by_head.loc[int(row[0][2]), int(row[1][2])]
        assert [cell[2] for cell in row[-2:]] == [f"{head[name]:+.3f}" for name in names]
        sure = [head[name.replace("delta", "resolved")] for name in names]
        assert [cell[0] != "unsure" for cell in row[-2:]] == sure


def test_one_way_of_intervening_has_no_such_section(nine):
    assert "however one intervenes" not in _words(nine / "report.html")
    assert not list(nine.rglob("robustness.*"))


def test_the_command_is_there_where_the_cells_are_a_grid(nine):
    assert "tiny-ablate -m dataset=facts,negation,ioi seed=0,1,2" in _words(nine / "report.html")


def test_cells_link_to_their_pages_where_there_are_any(tmp_path):
    directory = write_sweep(tmp_path / "s", layers=3, heads=2, k=3)
    (directory / "facts" / "s0").mkdir(parents=True)
    (directory / "facts" / "s0" / "report.html").write_text("x")
    text = write_sweep_report(directory).read_text(encoding="utf-8")
    assert re.findall(r'<a href="([^"]*)"', text) == ["facts/s0/report.html"]


def test_what_is_no_sweep_or_not_aggregated_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="is no sweep"):
        write_sweep_report(tmp_path)
    directory = write_sweep(tmp_path / "s", layers=3, heads=2, k=3)
    (directory / "artifacts" / "cross_condition" / "summary.json").unlink()
    with pytest.raises(ResultsError, match="tiny-ablate aggregate"):
        write_sweep_report(directory)


def test_a_damaged_file_is_named(tmp_path):
    directory = write_sweep(tmp_path / "s", layers=3, heads=2, k=3)
    path = directory / "artifacts" / "cross_condition" / "invariants.json"
    content = json.loads(path.read_text())
    del content["sets"][0]["members"][0]["layer"]
    path.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match="cross_condition is damaged"):
        write_sweep_report(directory)
