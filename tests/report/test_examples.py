"""What single prompts show: their text, the change, the likeliest token before and after."""

import json
import re

import pandas as pd
import pytest

from tests.cli.conftest import TOY
from tiny_ablation.report.examples import _shortener, examples_section, readouts_section
from tiny_ablation.store.files import read_json
from tiny_ablation.store.rundir import RunDir


@pytest.fixture
def run(cli, tmp_path):
    assert cli(*TOY, "verify=off", "ablation.scales=[0.0]", "hydra.run.dir=run").code == 0
    return RunDir(tmp_path / "run")


def test_the_prompts_are_those_that_the_site_changes_most(run, cli):
    summary = read_json(run.summary)
    section = examples_section(run, summary)
    assert len(section.tables) == len(section.text) == 3
    site = summary["top"][0]
    every = pd.read_parquet(run.per_example).query(f"layer == {site['layer']} and head == {site['head']}")
    texts = {each["id"]: each["text"]["clean"] for each in read_json(run.provenance)["prompts"]}
    change = every.set_index("example_id").eval("logit_diff - logit_diff_baseline")
    strongest = change.abs().sort_values(ascending=False).index[:8]
    assert [row[0] for row in section.tables[0].rows] == [texts[each] for each in strongest]
    assert section.tables[0].rows[0][3] == f"{change[strongest[0]]:+.3f}"
    flips = (every["prediction"] != every["prediction_baseline"]).sum()
    assert f"L{site['layer']}H{site['head']} changes the likeliest next token of {flips} of 20 prompts" in section.text[0]
    page = run.report.read_text()
    assert texts[strongest[0]] in page
    assert ">Examples<" in page


def test_a_site_that_changes_nothing_has_no_prompts(run):
    summary, every = read_json(run.summary), pd.read_parquet(run.per_example)
    first, second = ((each["layer"], each["head"]) for each in summary["top"][:2])
    same = (every["layer"] == second[0]) & (every["head"] == second[1])
    every.loc[same, "logit_diff"] = every.loc[same, "logit_diff_baseline"]
    every.to_parquet(run.per_example)
    section = examples_section(run, summary)
    assert len(section.tables) == 2
    assert not any(f"L{second[0]}H{second[1]}" in line for line in section.text)
    assert f"L{first[0]}H{first[1]}" in section.text[0]


def test_rows_without_a_foil_are_compared_with_none(cli, tmp_path):
    opposites = {"hot": " cold", "big": " small", "fast": " slow", "old": " young", "dark": " light", "open": " closed"}
    rows = [{"clean": f"The opposite of {word} is", "target": opposite} for word, opposite in opposites.items()]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mine = ("dataset=file", "dataset.path=mine.jsonl", "metrics.span=full", "metrics.names=[seq_p_drop]")
    assert cli("model=toy", "tracking=off", "verify=off", *mine, "hydra.run.dir=run").code == 0
    run, summary = RunDir(tmp_path / "run"), read_json(tmp_path / "run/metrics/summary.json")
    [table, *_] = examples_section(run, summary).tables
    assert table.head == ("prompt", "right", "change", "likeliest before", "likeliest after")
    changes = [float(row[2]) for row in table.rows]
    assert abs(changes[0]) == max(map(abs, changes)) > 0  # however small, not rounded to nothing
    [readouts, *_] = readouts_section(run).tables
    assert readouts.head[-1] == "right"
    assert "wrong" not in readouts.caption + " ".join(readouts_section(run).text)


def test_sites_of_several_directions_are_told_apart(cli, tmp_path):
    patch = ("ablation=activation_patch", "ablation.granularity=attn_out", "ablation.direction=both", "dataset.n_examples=8")
    assert cli(*TOY, "verify=off", *patch, "hydra.run.dir=run").code == 0
    summary = read_json(tmp_path / "run/metrics/summary.json")
    captions = [table.caption for table in examples_section(RunDir(tmp_path / "run"), summary, sites=4).tables]
    assert len({caption.partition(":")[0] for caption in captions}) == len(captions) == 4
    assert all("_to_" in caption for caption in captions)
    page = (tmp_path / "run/report.html").read_text()
    lead = page.partition('<p class="lead">')[2].partition("</p>")[0]
    assert "That is a change" not in lead or re.match(
        r"Patching layer \d, attn_out \(\w+_to_\w+\) from the paired prompt ", lead
    )
    assert lead.startswith(("Patching layer ", "No component has an effect "))
    assert "attn_out (" in lead


def test_a_long_prompt_is_shown_by_its_end(run):
    section = examples_section(run, read_json(run.summary), sites=1, prompts=2, longest=10)
    assert all(4 < len(row[0]) <= 12 for row in section.tables[0].rows)
    assert section.tables[0].rows[0][0].startswith("… ")


def test_a_run_of_an_earlier_version_has_none(run):
    provenance = read_json(run.provenance)
    for each in provenance["prompts"]:
        del each["text"]
    run.provenance.write_text(json.dumps(provenance))
    assert examples_section(run, read_json(run.summary)).tables == ()


def test_of_prompts_that_end_alike_what_differs_is_shown():
    end = "<|im_end|> <|im_start|>assistant The capital is"
    asked = [f"<|im_start|>user What is the capital of {place}?{end}" for place in ("Chad", "Peru", "Mali")]
    shown = [_shortener(asked, 40)(prompt) for prompt in asked]
    assert all(place in text and text.endswith(" …") for place, text in zip(("Chad", "Peru", "Mali"), shown, strict=True))
    assert _shortener(["abc de", "def gh"], 5)("abc de") == "… bc de"
    assert _shortener(["one prompt only"], 6)("one prompt only") == "… only"  # begins with a word
