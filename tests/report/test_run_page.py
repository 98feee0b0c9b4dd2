import base64
import json
import re
from html.parser import HTMLParser

import pytest

from tests.report.policy import nonce
from tiny_ablation.errors import ResultsError
from tiny_ablation.report.figures.of_run import write_figures
from tiny_ablation.report.run_page import write_run_report


class _Page(HTMLParser):
    """Tags with their attributes, and the cells of the table of sites."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def _report(tmp_path, table, **how):
    directory = how.pop("write_run")(tmp_path / "run", table, **how)
    return write_run_report(directory).read_text(encoding="utf-8")


def test_a_second_call_gives_the_same_bytes(tmp_path, fake):
    directory = fake.write_run(tmp_path / "run", fake.impact(4, 3))
    assert write_run_report(directory) == directory / "report.html"
    first = (directory / "report.html").read_bytes()
    write_run_report(directory)
    assert (directory / "report.html").read_bytes() == first


def test_the_size_of_the_headline_follows_the_evidence(tmp_path, fake):
    """A claim that is not resolved or not stable is worded so, and set smaller."""
    table = fake.impact(4, 3)
    unresolved = table.assign(ci_low=-9.0, ci_high=9.0)
    stability = {"metric": "logit_diff", "top": 5, "of": 12, "n_splits": 200, "jaccard": 0.3, "stable": False}

    def head(name, rows, **changes):
        page = write_run_report(fake.write_run(tmp_path / name, rows, **changes)).read_text(encoding="utf-8")
        return re.search(r"<h1([^>]*)>(.*?)</h1>", page).groups()

    assert head("firm", table)[0] == ""
    how, said = head("unstable", table, stability=stability)
    assert how == ' class="tentative"'
    assert "is not stable" in said
    assert head("unresolved", unresolved)[0] == ' class="tentative"'


def test_it_opens_offline(tmp_path, fake):
    text = _report(tmp_path, fake.impact(4, 3), write_run=fake.write_run)
    sources = [a.get("src") or a.get("href") for _, a in _Page(text).tags if "src" in a or "href" in a]
    assert sources == ["data:,"]
    assert 'data-plotly="artifacts/plotly.min.js"' in text
    assert (tmp_path / "run" / "artifacts" / "plotly.min.js").is_file()


def test_every_page_lets_its_own_scripts_run_and_no_others(tmp_path, fake):
    table = fake.impact(4, 3)
    directory = fake.write_run(tmp_path / "run", table)
    write_figures(directory, table, fake.summary(table))
    write_run_report(directory)
    pages = [path.read_text(encoding="utf-8") for path in (directory / "report.html", *directory.rglob("artifacts/*.html"))]
    assert len(pages) > 2
    for page in pages:
        tags = _Page(page).tags
        [policy] = [a["content"] for _, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith(f"default-src 'none'; script-src 'nonce-{nonce(page)}'; ")
        running = [a for tag, a in tags if tag == "script" and a.get("type") != "application/json"]
        assert {a.get("nonce") for a in running} == {nonce(page)}
        assert not [name for _, a in tags for name in a if name.startswith("on")]
    assert len({nonce(page) for page in pages}) == len(pages)


def test_hostile_text_stays_text(tmp_path, fake):
    table = fake.impact(3, 2, model=fake.hostile, dataset=fake.hostile)
    changes = {"warnings": [fake.hostile], "null": fake.hostile}
    text = _report(tmp_path, table, write_run=fake.write_run, **changes)
    clean = _report(tmp_path / "clean", fake.impact(3, 2), write_run=fake.write_run)
    assert "<script>alert(1)" not in text
    assert "\\u003cscript\\u003ealert" not in text.replace("&", "")  # figures take no names unescaped
    scripts = [sum(tag == "script" for tag, _ in _Page(page).tags) for page in (text, clean)]
    assert scripts[0] == scripts[1]


def test_hostile_provenance_and_config_stay_text(tmp_path, fake):
    directory = fake.write_run(tmp_path / "run", fake.impact(3, 2))
    (directory / "config.yaml").write_text(f"notes: {fake.hostile}")
    (directory / "provenance.json").write_text(json.dumps({"argv": ["tiny-ablate", fake.hostile], "x": fake.hostile}))
    text = write_run_report(directory).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)") == 3


def test_the_table_holds_every_effect_of_the_primary_metric(tmp_path, fake):
    table = fake.impact(4, 3)
    text = _report(tmp_path, table, write_run=fake.write_run)
    rows = re.findall(r'<tr data-resolved="(yes|no)".*?>(.*?)</tr>', text)
    cells = [(resolved, re.findall(r'<td[^>]*data-v="([^"]*)"', row)) for resolved, row in rows]
    expected = table[(table["metric"] == "logit_diff") & (table["scale"] != 1.0)]
    expected = expected.loc[expected["delta"].abs().sort_values(ascending=False, kind="stable").index]
    assert [float(values[3]) for _, values in cells] == expected["delta"].tolist()
    assert [float(values[7]) for _, values in cells] == expected["value"].tolist()
    assert [float(values[5]) for _, values in cells] == expected["shrunken"].tolist()
    held = (expected["ci_low"] <= 0) & (expected["ci_high"] >= 0)
    assert [resolved for resolved, _ in cells] == ["no" if h else "yes" for h in held]


def test_the_page_carries_the_static_figures_for_when_it_is_sent_alone(tmp_path, fake):
    table = fake.impact(4, 3)
    directory = fake.write_run(tmp_path / "run", table)
    write_figures(directory, table, fake.summary(table))
    text = write_run_report(directory).read_text(encoding="utf-8")
    images = re.findall(r'<img src="data:image/png;base64,([^"]*)"', text)
    drawn = [directory / "artifacts" / f"{name}.png" for name in ("head_map", "forest", "scales")]
    assert [base64.b64decode(image) for image in images] == [path.read_bytes() for path in drawn]


def test_figures_have_names_for_those_who_do_not_see_them(tmp_path, fake):
    page = _Page(_report(tmp_path, fake.impact(4, 3), write_run=fake.write_run))
    named = [attrs["aria-label"] for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(named) == 3
    assert all("smollm2_135m" in name and "change in logit_diff (logits)" in name for name in named)


def test_where_q_values_cannot_be_there_are_none(tmp_path, fake):
    why = "8 groups allow no p-value below 0.008."
    text = _report(tmp_path, fake.impact(4, 3), write_run=fake.write_run, resolution=why)
    assert f"q‑values are not shown: {why}" in text
    assert "q at most" not in text
    assert not re.search(r"<td[^>]*>(<|&lt;)0\.001</td>", text)


def test_methods_threats_and_command(tmp_path, fake):
    page = _Page(_report(tmp_path, fake.impact(4, 3), write_run=fake.write_run))
    text = " ".join(" ".join(page.text).split())
    for name, value in fake.summary(fake.impact(4, 3))["intervention"].items():
        assert f" {name} {value} " in text
    assert "tiny-ablate ablation=heads_zero dataset=facts 'condition=my tag'" in text
    assert "with fewer than 20 those of strongly skewed effects tend to be too short" in text
    assert "Zero is a value that the component may never take" in text
    assert "machine.cpu Some CPU" in text


def test_seeds_that_change_nothing_are_no_replication(tmp_path, fake):
    text = _report(tmp_path, fake.impact(3, 2), write_run=fake.write_run, seed_effect="none")
    assert "another seed is no replication" in text


def test_a_partial_run_says_so_and_is_rebuilt_to_the_same_bytes(tmp_path, fake):
    directory = fake.write_run(tmp_path / "run", fake.impact(3, 2))
    said = write_run_report(directory, status="partial").read_bytes()
    assert b"This run is partial" in said
    (directory / "manifest.json").write_text(json.dumps({"status": "partial", "digest": "d"}))
    assert write_run_report(directory).read_bytes() == said
    assert b"This run is partial" not in write_run_report(directory, status="ok").read_bytes()


def test_long_lists_of_provenance_are_left_to_their_file(tmp_path, fake):
    directory = fake.write_run(tmp_path / "run", fake.impact(3, 2))
    (directory / "provenance.json").write_text(json.dumps({"prompts": [{"id": "x", "clean": [1, 2, 3]}] * 50}))
    text = write_run_report(directory).read_text(encoding="utf-8")
    assert "<dt>prompts</dt><dd>50 entries, in provenance.json</dd>" in text


def test_a_run_without_provenance_or_figures_still_has_a_report(tmp_path, fake):
    directory = fake.write_run(tmp_path / "run", fake.impact(3, 2))
    (directory / "provenance.json").unlink()
    (directory / "config.yaml").unlink()
    assert "<h2>Methods</h2>" in write_run_report(directory).read_text(encoding="utf-8")


def test_layers_have_a_forest_plot_and_no_head_map(tmp_path, fake):
    text = _report(tmp_path, fake.layer_impact(), write_run=fake.write_run, name="layer_impact")
    assert 'id="forest-logit_diff"' in text
    assert 'id="head-map-logit_diff"' not in text


def test_a_directory_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"summary\.json"):
        write_run_report(tmp_path)


def test_no_line_ends_between_a_number_and_its_percent_sign(tmp_path, fake):
    text = _report(tmp_path, fake.impact(4, 3), write_run=fake.write_run)
    lead = text.partition('<p class="lead">')[2].partition("</p>")[0]
    assert "95\N{NO-BREAK SPACE}%" in lead
    assert " %" not in lead


def test_a_short_table_is_printed_whole_and_does_not_say_that_it_is_cut(tmp_path, fake):
    for n_layers, cut in ((3, False), (20, True)):
        text = _report(tmp_path / str(n_layers), fake.impact(n_layers, 4), write_run=fake.write_run)
        assert ("Printed: the first 30 rows." in text) == cut


def test_the_page_says_which_prompt_the_baseline_is_of(tmp_path, fake):
    text = _report(tmp_path, fake.impact(4, 3), write_run=fake.write_run, baseline_of="the corrupt prompt, un-intervened")
    assert "The baseline is the corrupt prompt, un-intervened. A change is the value" in text
