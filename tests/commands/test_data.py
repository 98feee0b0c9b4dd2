import subprocess
import sys

import pytest
import torch

from tiny_ablation import commands
from tiny_ablation.data.text import token_text
from tiny_ablation.engine import executor
from tiny_ablation.engine.executor import Executor
from tiny_ablation.models.sources.toy import toy_llama

HEAVY = ("torch", "pandas", "numpy", "transformers", "scipy", "matplotlib")


def test_every_command_has_a_help_line():
    found = commands.summaries()
    assert {"behaviours", "data", "help", "split"} <= set(found)
    assert all(len(text) > 10 for text in found.values())


def test_help_lists_the_commands(cli):
    shown = cli("help").out
    for name, text in commands.summaries().items():
        assert name in shown
        assert text in shown


@pytest.mark.parametrize("name", commands.names())
def test_help_of_a_command_is_light(tmp_path, name):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tiny_ablation", name, "--help"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: tiny-ablate {name}")
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert [module for module in HEAVY if module in imported] == []


def test_a_family(cli):
    result = cli("data", "model=toy", "dataset=ioi", "--json")
    assert result.code == 0, result.err
    shown = result.json()
    assert shown["n"] == 300
    assert shown["splits"] == {"train": 180, "dev": 60, "test": 60}
    assert shown["n_templates"] == 100
    assert sum(shown["token_lengths"].values()) == shown["scorable"] == 300
    assert len(shown["rows"]) == 10
    assert len({row["group"] for row in shown["rows"]}) == 10
    assert shown["baseline"] is None


def test_named_positions_are_at_their_words(cli):
    for row in cli("data", "model=toy", "dataset=ioi", "--json").json()["rows"]:
        clean, positions = row["clean"], row["positions"]
        assert "".join(clean[i] for i in positions["io"]) == "".join(row["target"])
        assert "".join(clean[i] for i in positions["s2"]) == "".join(row["foil"])
        assert positions["last"] == [len(clean) - 1]


def test_the_text_says_the_same(cli):
    shown = cli("data", "model=toy", "dataset=ioi").out
    for words in ("300 examples", "train 180, dev 60, test 60", "100 templates", "0 rows cannot be scored", "s2 ", "last "):
        assert words in shown
    content = cli("data", "model=toy", "dataset=ioi", "--json").json()
    for length, count in content["token_lengths"].items():
        assert f"{length}  {count:>6}  #" in shown


def test_the_baseline_per_template(cli):
    found = cli("data", "model=toy", "dataset=sva", "dataset.n_examples=40", "--baseline", "--json").json()["baseline"]
    assert found["n"] == 40
    assert sum(row["n"] for row in found["by_template"]) == 40
    for name in ("accuracy", "preference", "logit_diff"):
        mean = sum(row["n"] * row[name] for row in found["by_template"]) / 40
        assert mean == pytest.approx(found[name]["mean"])
    assert found["preference"]["ci_low"] <= found["preference"]["mean"] <= found["preference"]["ci_high"]


def test_the_baseline_shows_what_the_model_answers_to_each_row(cli):
    """The likeliest next token of the bare model."""
    model, tokenizer = toy_llama()
    args = ("data", "model=toy", "dataset=sva", "dataset.n_examples=4")
    rows = cli(*args, "--baseline", "--json").json()["rows"]
    assert len(rows) == 10
    for row in rows:
        ids = torch.tensor([tokenizer("".join(row["clean"]))["input_ids"]])
        with torch.no_grad():
            likeliest = model(ids).logits[0, -1].argmax()
        assert row["answer"] == token_text(tokenizer, int(likeliest))
    assert f"    answer   |{rows[0]['answer']}|" in cli(*args, "--baseline").out
    assert "answer" not in cli(*args, "--json").json()["rows"][0]


def test_no_row_is_run_twice_for_its_answer_and_the_baseline(cli, monkeypatch):
    ran = []

    def counted(network, prompts, *rest):
        ran.extend(prompt.name for prompt in prompts)
        return Executor(network, prompts, *rest)

    monkeypatch.setattr(executor, "Executor", counted)
    cli("data", "model=toy", "dataset=sva", "dataset.n_examples=12", "--baseline")
    assert len(ran) == len(set(ran)) == 12


def test_rows_that_cannot_be_scored_are_listed_and_counted(cli, corpus_file, tmp_path):
    corpus_file(12, 3, name="short.jsonl")
    corpus_file(1, 1, name="long.jsonl", clean="A long answer is", target=" blue red")
    (tmp_path / "both.jsonl").write_text((tmp_path / "short.jsonl").read_text() + (tmp_path / "long.jsonl").read_text())
    args = ("data", "model=toy", "dataset=jsonl", "dataset.path=both.jsonl")
    shown = cli(*args, "--json").json()
    assert list(shown["unscorable"]) == ["row-13"]
    assert shown["scorable"] == 12
    text = cli(*args).out
    assert "1 rows cannot be scored" in text
    assert "row-13: toy: target ' blue red' is 2 tokens" in text


def test_control_characters_do_not_reach_the_terminal(cli, corpus_file):
    corpus_file(3, 1, template="red \x1b[31m", group="g")
    shown = cli("data", "model=toy", "dataset=jsonl", "dataset.path=mine.jsonl").out
    assert "\x1b" not in shown
    assert "\\x1b[31m" in shown


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("data", "dataset=nope"), ("nope", "ioi")),
        (("data", "model=toy", "--wrong"), ("--wrong", "--help")),
        (("data", "dataset=jsonl"), ("dataset.path",)),
        (("nope",), ("nope", "data, ")),
    ],
)
def test_wrong_input(cli, args, words):
    result = cli(*args)
    assert result.code == 2
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err


@pytest.mark.slow
def test_sets_of_answers_are_shown_as_the_tokens_that_count(cli):
    args = ("data", "model=toy", "dataset=greater_than")
    rows, shown = cli(*args, "--json").json()["rows"], cli(*args).out
    for row in rows:
        assert not {*row["targets"]} & {*row["foils"]}
        for side in (row["targets"], row["foils"]):
            more = f" and {len(side) - 10} more" if len(side) > 10 else ""
            assert f"|{'|'.join(side[:10])}|{more}" in shown
    assert {len(row["targets"]) > 1 for row in rows} == {True}
