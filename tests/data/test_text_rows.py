"""The formats besides JSONL: equal rows give one corpus, and what is wrong is told with file and line or row."""

import csv
import json
import re

import pandas as pd
import pytest

from tiny_ablation.config.schema import DatasetConfig
from tiny_ablation.data.corpus import load_corpus
from tiny_ablation.data.rows import FORMATS, read_examples
from tiny_ablation.errors import DataError

ROWS = [
    {"prompt": 'He said "hi,\tthere" in', "target": " Lima", "foil": " Quito", "targets": [" Lima", " Cuzco"], "group": "a"},
    {"prompt": "Zeile eins\nZeile zwei, caf\u00e9", "target": " ja", "foil": " nein"},
    {"prompt": "007", "target": "1", "foil": "2", "corrupt": "NA"},
]
HEAD = "clean,target,foil\n"


def config(path, **keys):
    return DatasetConfig(name="mine", family="file", path=str(path), **keys)


def save(path):
    """ROWS as pandas and Python write them."""
    table = pd.DataFrame(ROWS).astype(object).where(lambda t: t.notna(), None)
    match path.suffix:
        case ".parquet":
            table.to_parquet(path)
        case ".json":
            table.to_json(path)
        case ".csv" | ".tsv":
            table["targets"] = [x and json.dumps(x) for x in table["targets"]]
            table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
        case _:
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_equal_rows_are_one_corpus_whatever_their_format(tmp_path, suffix):
    fields = {"clean": "prompt"}
    as_json = load_corpus(config(save(tmp_path / "rows.jsonl"), fields=fields), 0)
    same = load_corpus(config(save(tmp_path / f"other{suffix}"), fields=fields), 0)
    assert same.examples == as_json.examples
    assert same.content_hash == as_json.content_hash
    assert [e.group for e in same.examples] == ["a", "row-2", "row-3"]
    assert same.examples[0].right == (" Lima", " Cuzco")
    assert same.examples[2].corrupt == "NA"


@pytest.mark.parametrize(
    "content", [ROWS, {name: [row.get(name) for row in ROWS] for name in ("prompt", "target", "foil", "corrupt")}]
)
def test_json_is_a_list_of_objects_or_an_object_of_columns(tmp_path, content):
    (tmp_path / "x.json").write_text(json.dumps(content))
    found = read_examples(config(tmp_path / "x.json", fields={"clean": "prompt"}))
    assert [(e.clean, e.corrupt) for e in found] == [(row["prompt"], row.get("corrupt", "")) for row in ROWS]


def test_a_suffix_in_capitals_a_byte_order_mark_and_blank_lines_do_not_matter(tmp_path):
    (tmp_path / "X.CSV").write_bytes(b"\xef\xbb\xbfclean, target,foil,\r\n\r\nP is, a, b,\r\n\r\n")
    [example] = read_examples(config(tmp_path / "X.CSV"))
    assert (example.clean, example.target, example.foil, example.id) == ("P is", " a", " b", "row-1")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (HEAD + "P is, a, b\nQ is, a\n", "has a bad line: line 3: 2 cells, but 3 columns in the header; put quotes"),
        (HEAD + '"P\nis", a, b\nQ, is, a, b\n', "has a bad line: line 4: 4 cells, but 3 columns in the header"),
        (HEAD + "P is,, b\n", "has a bad line: line 2: missing target; the row has clean, foil"),
        (HEAD + '"P is" x, a, b\n', ", line 2: ',' expected after '\"'"),
        (HEAD + '"P is, a, b\n', ", line 2: unexpected end of data"),
        (HEAD + "caf\udce9, a, b\n", ", line 2: not UTF-8"),
        ("clean;target;foil\nP; a; b\n", "line 1: one column, 'clean;target;foil'; separate columns with ',', not ';'"),
        ("clean,foil,clean\nP, a, b\n", "has two columns 'clean'"),
        ("clean,target,foil,grup\nP, a, b,g\n", "line 2: it has the field 'grup', which is not read; did you mean"),
        ('clean,target,foil,targets\nP, a, b," a| c"\n', "line 2: targets is a list, which a cell holds as JSON"),
        ("clean,target,foil,targets\nP, a, b,7\n", "line 2: targets is a number, not a list of texts"),
    ],
)
def test_what_is_wrong_in_a_csv_is_told_with_its_line(tmp_path, text, fault):
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=re.escape(f"{path}") + ".*" + re.escape(fault)):
        read_examples(config(path))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[{"clean": "P is"}, 3]', "has 2 bad rows: row 1: missing target; the row has clean"),
        ('[{"clean": "a", "clean": "b"}]', "the key 'clean' stands twice"),
        ("[\n1, NaN]", "NaN is no value of JSON"),
        ("[\n1,, 2]", "not valid JSON: Expecting value (line 2, column 3)"),
        ('{"clean": ["a"], "target": []}', "an object, which is read as columns"),
        ('{"clean": {"0": "a"}, "target": {"1": "b"}}', "an object, which is read as columns"),
        ("3", "holds a JSON number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_in_a_json_file_is_told_with_its_row(tmp_path, text, fault):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=re.escape(fault.removeprefix("an "))):
        read_examples(config(tmp_path / "x.json"))


def test_twenty_thousand_rows_of_a_csv_are_read(tmp_path):
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("clean", "target", "foil"), *((f"Number {i} is", " a", " b") for i in range(20_000))])
    examples = read_examples(config(tmp_path / "x.csv"))
    assert (len(examples), examples[-1].clean) == (20_000, "Number 19999 is")
