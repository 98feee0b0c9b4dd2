import json
import re

from tiny_ablation.report.figures import of_run


def _draw(folder, table):
    of_run.write_figures(folder, table, {"primary": "logit_diff", "kind": "heads_zero", "model": "m", "dataset": "d"})
    return folder / "artifacts" / "forest.png", folder / "artifacts" / "forest.html"


def _traces(page):
    source = re.search(r'data-figure="[^"]*">(.*?)</script>', page.read_text(), re.S)
    return json.loads(source[1])["data"]


def test_equal_tables_give_equal_bytes(tmp_path, fake):
    first, second = (_draw(tmp_path / name, fake.impact(4, 3)) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_twenty_strongest_sites_of_the_strongest_scale_in_order(tmp_path, fake):
    table = fake.impact()
    traces = _traces(_draw(tmp_path, table)[1])
    rows = table[(table["metric"] == "logit_diff") & (table["scale"] == 0.0)]
    expected = rows.loc[rows["delta"].abs().sort_values(ascending=False).index[:20]]
    assert [trace["x"][0] for trace in traces] == expected["delta"].tolist()
    assert traces[0]["text"][0] == "L7H6"


def test_bars_end_where_the_interval_does_even_when_it_is_lopsided(tmp_path, fake):
    table = fake.impact(2, 2, (0.0,))
    for trace in _traces(_draw(tmp_path, table)[1]):
        row = table[(table["metric"] == "logit_diff") & (table["delta"] == trace["x"][0])].iloc[0]
        bars = trace["error_x"]
        assert abs(trace["x"][0] - bars["arrayminus"][0] - row["ci_low"]) < 1e-12
        assert abs(trace["x"][0] + bars["array"][0] - row["ci_high"]) < 1e-12


def test_an_interval_that_holds_zero_has_an_open_mark_without_hue(tmp_path, fake):
    marks = {
        (t["marker"]["symbol"], t["marker"]["color"], "unresolved" in t["hovertemplate"])
        for t in _traces(_draw(tmp_path, fake.impact())[1])
    }
    assert marks == {("circle", "#b8432a", False), ("circle", "#2f6ba8", False), ("circle-open", "#9aa0a9", True)}


def test_a_table_of_layers_is_drawn_too(tmp_path, fake):
    traces = _traces(_draw(tmp_path, fake.layer_impact())[1])
    assert re.fullmatch(r"layer \d+, (attn|mlp)_out", traces[0]["text"][0])
