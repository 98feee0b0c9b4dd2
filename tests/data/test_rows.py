import json
import re
from pathlib import Path

import pytest

from tiny_ablation.config.schema import DatasetConfig
from tiny_ablation.data.rows import read_examples
from tiny_ablation.errors import ConfigError, DataError

ROW = {"clean": "The capital of Peru is", "target": " Lima", "foil": " Quito"}


def config(path: Path | str | None, **keys: object) -> DatasetConfig:
    return DatasetConfig(name="mine", family="file", path=None if path is None else str(path), **keys)  # type: ignore[arg-type]


@pytest.fixture
def write(tmp_path):
    def _write(*lines: object) -> Path:
        path = tmp_path / "mine.jsonl"
        raw = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        path.write_bytes(b"\n".join(raw))
        return path

    return _write


def test_three_fields_make_a_row(write):
    [example] = read_examples(config(write(ROW)))
    assert (example.clean, example.target, example.foil, example.corrupt) == (*ROW.values(), "")
    assert (example.id, example.group) == ("row-1", "row-1")


@pytest.mark.parametrize(
    ("fields", "group"),
    [
        ({"group": 7, "template": "t"}, "7"),
        ({"template": "t", "relation": "r"}, "t"),
        ({"relation": "r", "group": None}, "r"),
        ({"id": 12}, "12"),
    ],
)
def test_the_group_falls_back_to_what_the_row_shares(write, fields, group):
    assert read_examples(config(write({**ROW, **fields})))[0].group == group


def test_a_row_may_have_several_right_and_wrong_answers(write):
    path = write({**ROW, "targets": [" Lima", " Cuzco"], "wrong": [" Quito"]}, {**ROW, "wrong": [" Quito"]})
    both, one = read_examples(config(path, fields={"foils": "wrong"}))
    assert (both.right, both.wrong, both.has_sets) == ((" Lima", " Cuzco"), (" Quito",), True)
    assert (one.targets, one.right) == ((), (" Lima",))
    assert not both.by_first_token


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (" Lima", "targets is a string, not a list of texts"),
        ([], "targets is an empty list, not a list of texts"),
        ([" Lima", 3], r"targets\[1\] is a number, not text"),
        ([" Lima", ""], r"targets\[1\] is empty"),
    ],
)
def test_answers_that_are_no_list_of_texts_are_refused(write, value, message):
    with pytest.raises(DataError, match=f"line 1: {message}"):
        read_examples(config(write({**ROW, "targets": value})))


def test_fields_can_have_other_names(write):
    path = write({"prompt": "P is", "answer": " a", "wrong": " b", "cluster": "c", "clean": 3})
    names = {"clean": "prompt", "target": "answer", "foil": "wrong", "group": "cluster"}
    [example] = read_examples(config(path, fields=names))
    assert (example.clean, example.target, example.foil, example.group) == ("P is", " a", " b", "c")


def test_a_field_that_was_renamed_must_be_there(write):
    with pytest.raises(DataError, match=r"line 1: missing cluster \(dataset.fields.group\)"):
        read_examples(config(write(ROW), fields={"group": "cluster"}))


def test_renaming_an_unknown_field_is_refused(write):
    with pytest.raises(ConfigError, match=r"dataset.fields renames prompt.*ours are clean, target, foil"):
        read_examples(config(write(ROW), fields={"prompt": "clean"}))


def test_byte_order_mark_crlf_and_blank_lines_do_not_matter(write):
    row = json.dumps(ROW).encode()
    path = write(b"\xef\xbb\xbf" + row + b"\r", b"\r", b"  ", json.dumps({**ROW, "clean": "P is"}).encode() + b"\r")
    assert [example.id for example in read_examples(config(path))] == ["row-1", "row-4"]


def test_text_is_taken_in_one_unicode_form(write):
    assert read_examples(config(write({**ROW, "clean": "Cafe\u0301\r\nis"})))[0].clean == "Caf\u00e9\nis"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"clean": "P is"', "not valid JSON: Expecting ',' delimiter (column 17)"),
        (b"[" * 100_000, "not valid JSON: nested too deeply"),
        (b"[1]", "a JSON list where an object"),
        (b"null", "a JSON null where an object"),
        (b'{"clean": "caf\xe9"}', "not UTF-8 (byte 15 of the line)"),
        ({"clean": "P is", "answer": " a"}, "missing target; the row has answer, clean"),
        ({**ROW, "target": None}, "missing target"),
        ({**ROW, "foil": ""}, "foil is empty"),
        ({**ROW, "target": 4}, "target is a number, not text"),
        ({**ROW, "id": True}, "id is a boolean, not text"),
        ({**ROW, "subject": ["Peru"]}, "subject is a list, not text"),
        ({**ROW, "clean": ""}, "clean is empty"),
        (b'{"clean": "\\ud800 is", "target": " a", "foil": " b"}', "clean holds half of a surrogate pair"),
        ({**ROW, "id": "row-1"}, "id 'row-1' already stands in line 1"),
    ],
)
def test_a_bad_line_is_named_by_its_number(write, line, fault):
    path = write(ROW, b"", line)
    with pytest.raises(DataError, match=re.escape(f"{path} has a bad line: line 3: {fault}")):
        read_examples(config(path))


def test_all_bad_lines_are_reported_at_once(write):
    path = write(ROW, *[b"{" for _ in range(14)])
    with pytest.raises(DataError) as error:
        read_examples(config(path))
    text = str(error.value)
    assert "14 bad lines" in text
    assert "(14 in all)" in text
    assert "line 2:" in text
    assert "line 11:" in text
    assert "line 12:" not in text
    assert "\n" not in text


def test_no_path_names_the_key():
    with pytest.raises(ConfigError, match=r"dataset\.path is not set"):
        read_examples(config(None))


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.path=.*nothing\.jsonl: there is no such file"):
        read_examples(config(tmp_path / "nothing.jsonl"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.xlsx", r"x\.xlsx: \.xlsx is no format that is read; save it as one of \.jsonl, .*\.csv.*\.parquet"),
        (".", "is a directory without state.json"),
    ],
)
def test_what_is_of_no_known_format_is_refused(tmp_path, name, message):
    (tmp_path / "x.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=message):
        read_examples(config(tmp_path / name))


def test_twenty_thousand_rows_are_read(write):
    rows = [{**ROW, "clean": f"Number {i} is"} for i in range(20_000)]
    examples = read_examples(config(write(*rows)))
    assert (len(examples), examples[-1].id, examples[-1].clean) == (20_000, "row-20000", "Number 19999 is")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"clean": "a", "clean": "b", "target": "c", "foil": "d"}', "line 2: the key 'clean' stands twice"),
        (b'{"clean": "a", "target": "c", "foil": "d", "more": {"x": 1, "y": 2, "x": 3}}', "the key 'x' stands twice"),
        (b'{"clean": "a", "target": "c", "foil": NaN}', "line 2: NaN is no value of JSON"),
        (b'{"clean": "a", "target": "c", "foil": "d", "group": -Infinity}', "-Infinity is no value of JSON"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(write, line, message):
    path = write(ROW, line)
    with pytest.raises(DataError, match=f"{re.escape(str(path))} has a bad line: .*{re.escape(message)}"):
        read_examples(config(path))


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("grup", "group"), ("corupt", "corrupt"), ("Group", "group"), ("tempalte", "template"), ("splti", "split")],
)
def test_a_field_that_is_nearly_ours_is_a_slip(write, slip, meant):
    with pytest.raises(DataError, match=f"line 1: it has the field '{slip}', which is not read; did you mean '{meant}'"):
        read_examples(config(write({**ROW, slip: "x"})))


def test_a_slip_is_told_before_what_is_missing_for_it(write):
    row = {"claen": ROW["clean"], "target": " Lima", "foil": " Quito"}
    with pytest.raises(DataError, match="did you mean 'clean'"):
        read_examples(config(write(row)))


def test_fields_of_other_names_are_nobodys_slip(write):
    others = {"relation_id": 3, "template_id": 4, "idx": 1, "note": "n", "groups": "kept beside group"}
    assert read_examples(config(write({**ROW, "group": "g", **others})))[0].group == "g"


def test_a_renamed_field_is_what_a_slip_is_compared_with(write):
    names = {"group": "cluster"}
    with pytest.raises(DataError, match="'clustr', which is not read; did you mean 'cluster'"):
        read_examples(config(write({**ROW, "clustr": "x"}), fields=names))
