import json
from collections import defaultdict

import pytest

from tiny_ablation.config.schema import DatasetConfig
from tiny_ablation.data.corpus import load_corpus
from tiny_ablation.errors import DataError


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def load(path, **keys):
    return load_corpus(DatasetConfig(name="mine", family="file", path=str(path), **keys), seed=0)


def test_the_rows_keep_everything_and_get_a_split(cli, corpus_file, tmp_path):
    source = corpus_file(500)
    result = cli("split", source, "--json")
    assert result.code == 0, result.err
    written = rows(tmp_path / "mine.split.jsonl")
    assert [{k: v for k, v in row.items() if k not in ("split", "id")} for row in written] == rows(tmp_path / source)
    counts = result.json()["counts"]
    assert counts == {name: sum(row["split"] == name for row in written) for name in ("train", "dev", "test")}
    assert counts["train"] == pytest.approx(300, abs=40)
    assert counts["dev"] == pytest.approx(100, abs=30)


def test_the_hashes_are_those_of_the_corpus_as_it_is_read(cli, corpus_file, tmp_path):
    stored = cli("split", corpus_file(), "--json").json()
    corpus = load(tmp_path / "mine.split.jsonl")
    assert (stored["content_hash"], stored["split_hash"]) == (corpus.content_hash, corpus.split_hash)


def test_by_prompt_is_what_a_run_does_without_a_split(cli, corpus_file, tmp_path):
    before = load(tmp_path / corpus_file())
    cli("split", "mine.jsonl")
    after = load(tmp_path / "mine.split.jsonl")
    assert after.splits == before.splits
    assert after.content_hash != before.content_hash  # the assignment is part of the content now


def test_by_group_no_template_is_in_two_splits(cli, corpus_file, tmp_path):
    assert cli("split", corpus_file(200, 20), "--by", "group").code == 0
    found = defaultdict(set)
    for row in rows(tmp_path / "mine.split.jsonl"):
        found[row["template"]].add(row["split"])
    assert all(len(names) == 1 for names in found.values())
    sizes = [sum(names == {name} for names in found.values()) for name in ("train", "dev", "test")]
    assert sizes == [12, 4, 4]


def test_groups_that_share_a_template_stay_together(cli, tmp_path):
    lines = [
        {"clean": f"Row {i} is", "target": " a", "foil": " b", "group": f"g{i}", "template": f"t{i // 2}"} for i in range(10)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert cli("split", "pairs.jsonl", "--by", "group").code == 0
    splits = [row["split"] for row in rows(tmp_path / "pairs.split.jsonl")]
    assert splits[::2] == splits[1::2]
    assert sorted(set(splits)) == ["dev", "test", "train"]


def test_too_few_groups(cli, corpus_file, tmp_path):
    result = cli("split", corpus_file(20, 2), "--by", "group")
    assert result.code == 2
    assert "there are 2" in result.err
    assert not (tmp_path / "mine.split.jsonl").exists()


def test_a_changed_corpus_is_refused_and_can_be_split_again(cli, corpus_file, tmp_path):
    stored = cli("split", corpus_file(), "--by", "group", "--json").json()
    path = tmp_path / "mine.split.jsonl"
    path.write_text(path.read_text().replace("Number 7 ", "Number 7000 "))
    with pytest.raises(DataError, match="was changed") as caught:
        load(path)
    now = load(path.rename(tmp_path / "elsewhere.jsonl")).content_hash
    (tmp_path / "elsewhere.jsonl").rename(path)
    message = str(caught.value)
    assert stored["content_hash"] in message
    assert now in message
    again = message.split("`tiny-ablate ")[1].split("`")[0].split()
    assert cli(*again).code == 0
    assert load(path).content_hash == now


def test_a_damaged_sidecar_is_refused(cli, corpus_file, tmp_path):
    cli("split", corpus_file())
    (tmp_path / "mine.split.jsonl.split.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        load(tmp_path / "mine.split.jsonl")


def test_nothing_is_overwritten_unasked(cli, corpus_file, tmp_path):
    source = corpus_file()
    assert cli("split", source).code == 0
    before = (tmp_path / "mine.split.jsonl").read_bytes()
    refused = cli("split", source, "--by", "group")
    assert refused.code == 2
    assert "--force" in refused.err
    assert (tmp_path / "mine.split.jsonl").read_bytes() == before
    assert cli("split", source, "--by", "group", "--force").code == 0
    assert (tmp_path / "mine.split.jsonl").read_bytes() != before


def test_renamed_fields(cli, tmp_path):
    lines = [{"prompt": f"Row {i} is", "target": " a", "foil": " b", "part": ""} for i in range(50)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    fields = "dataset.fields={clean: prompt, split: part}"
    result = cli("split", "own.jsonl", fields, "--json")
    assert result.code == 0, result.err
    corpus = load(tmp_path / "own.split.jsonl", fields={"clean": "prompt", "split": "part"})
    assert corpus.content_hash == result.json()["content_hash"]
    assert {row["part"] for row in rows(tmp_path / "own.split.jsonl")} == {"train", "dev", "test"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("split",), ("FILE", "--help")),
        (("split", "none.jsonl"), ("none.jsonl", "no such file")),
        (("split", "bad.jsonl"), ("bad.jsonl", "line 1")),
        (("split", "bad.jsonl", "--by", "date"), ("--by", "group")),
        (("splitt", "bad.jsonl"), ("splitt", "data", "split")),
    ],
)
def test_wrong_input(cli, tmp_path, args, words):
    (tmp_path / "bad.jsonl").write_text("{oops}\n")
    result = cli(*args)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]
