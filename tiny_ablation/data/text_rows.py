"""Rows of text files: JSONL, JSON, CSV and TSV.

A cell that holds nothing is a field that its row does not have. Cells of CSV and TSV are text, spaces included; a field that is
a list (`LISTS`) stands there as JSON, `[" Paris", " Lyon"]`. JSONL is read a line at a time, the others whole, at about the
memory of the file.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from tiny_ablation.data.text import listing
from tiny_ablation.errors import DataError

LISTS = ("targets", "foils", "messages", "corrupt_messages")
_BOM = b"\xef\xbb\xbf"


class RowError(Exception):
    """What is wrong with one row."""


class Row(NamedTuple):
    """One row, before anything is known of its content."""

    number: int  # from 1; names a row without an id. Of JSONL that of its line.
    where: str  # for messages: `line 7`, or `row 3` where a format has no lines
    read: Callable[[], Mapping[str, Any]]  # gives its fields; raises `RowError`


Fields = Mapping[str, str]
"""The name in the file of each of our fields."""


def json_lines(path: Path, _: Fields) -> Iterator[Row]:
    """The lines that are not blank; a byte order mark is taken off."""
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            raw = raw.removeprefix(_BOM) if line == 1 else raw
            if raw.strip():
                yield Row(line, f"line {line}", partial(_parsed, raw, line))


def _parsed(raw: bytes, line: int) -> Mapping[str, Any]:
    try:
        return _object(_loaded(raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        hint = "; save the file as UTF-8" if line == 1 else ""
        raise RowError(f"not UTF-8 (byte {error.start + 1} of the line){hint}") from None


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text.rstrip() else ""
        raise RowError(f"not valid JSON: {error.msg} ({line}column {error.colno})") from None
    except (RecursionError, ValueError):
        raise RowError("not valid JSON: nested too deeply, or a number too long") from None


def _object(row: Any) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise RowError(f"a JSON {json_kind(row)} where an object with clean and target is needed")
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a row; of a key that stands twice, nobody knows which value was meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RowError(f"the key {_twice([key for key, _ in pairs])!r} stands twice")
    return found


def _twice(names: Sequence[str]) -> str | None:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)


def _no_number(text: str) -> NoReturn:
    raise RowError(f"{text} is no value of JSON; leave the field out where there is no text")


def json_rows(path: Path, _: Fields) -> Iterator[Row]:
    """A list of objects, or an object of columns: lists, or objects as pandas' `to_json` writes them."""
    try:
        content = _loaded(_text(path))
    except RowError as error:
        raise DataError(f"{path}: {error}.") from None
    rows = content
    if isinstance(content, dict):
        values = {name: list(c.values()) if isinstance(c, dict) else c for name, c in content.items()}
        keys = {tuple(c) for c in content.values() if isinstance(c, dict)}
        if not all(isinstance(c, list) for c in values.values()) or len({*map(len, values.values())}) > 1 or len(keys) > 1:
            raise DataError(
                f"{path} holds a JSON object, which is read as columns, lists of one length: {listing(sorted(content))} are "
                "not."
            )
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    if not isinstance(rows, list):
        raise DataError(f"{path} holds a JSON {json_kind(content)}; a list of objects is needed, or an object of columns.")
    for number, row in enumerate(rows, start=1):
        yield Row(number, f"row {number}", partial(_object, row))


def _text(path: Path) -> str:
    raw = path.read_bytes().removeprefix(_BOM)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8; save the file as UTF-8.") from None


def separated(separator: str, path: Path, fields: Fields) -> Iterator[Row]:
    """The records under a header; blank lines are left out."""
    records = csv.reader(io.StringIO(_text(path), newline=""), delimiter=separator, strict=True)
    lists = {fields[name] for name in LISTS if name in fields}
    header, number, start = None, 0, 1
    try:
        for cells in records:
            where, start = f"line {start}", records.line_num + 1
            if not cells:
                continue
            if header is None:
                header = _header(path, cells, separator)
            else:
                number += 1
                yield Row(number, where, partial(_cells, header, cells, lists))
    except csv.Error as error:
        raise DataError(f"{path}, line {records.line_num}: {error}.") from None


def _header(path: Path, cells: Sequence[str], separator: str) -> list[str]:
    names = [name.strip() for name in cells]
    other = next((each for each in ",;\t" if len(names) == 1 and each in names[0]), None)
    if other:
        raise DataError(f"{path}, line 1: one column, {names[0]!r}; separate columns with {separator!r}, not {other!r}.")
    refuse_twice(path, [name for name in names if name])  # pandas writes its index without a name
    return names


def _cells(header: Sequence[str], cells: Sequence[str], lists: set[str]) -> Mapping[str, Any]:
    if len(cells) != len(header):
        raise RowError(
            f"{len(cells)} cells, but {len(header)} columns in the header; put quotes around text with separators in it"
        )
    given: dict[str, Any] = {name: cell for name, cell in zip(header, cells, strict=True) if name and cell}
    for name in [name for name in given if name in lists]:
        try:
            given[name] = _loaded(given[name])
        except RowError as error:
            raise RowError(f'{name} is a list, which a cell holds as JSON, such as [" Paris", " Lyon"]: {error}') from None
    return given


def refuse_twice(path: object, names: Sequence[str]) -> None:
    """Refuse a table of which two columns have one name."""
    if twice := _twice(names):
        raise DataError(f"{path} has two columns {twice!r}; keep the one that is meant.")


def json_kind(value: object) -> str:
    """What JSON calls a value."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    return {dict: "object", list: "list", str: "string"}.get(type(value), "number")
