"""A user's own corpus: one JSON object a line.

Required are `clean`, `target` and `foil`. Optional are `corrupt` (empty: zero and mean ablation do not need
it), `id` (`row-12` for line 12), `template`, `relation`, `subject`, `split` and `group`, which is the
template, else the relation, else the id: a row that names nothing it shares with others is its own cluster.
`targets` and `foils` are lists, for rows with several right or wrong answers: target and foil are among them.
With `dataset.chat` a row is a conversation: `messages`, a list of `role` and `content`, or `clean`, which the user says, with
`system`; and `corrupt_messages`, or `corrupt`, which takes the place of the last turn.
Other fields are ignored, unless their name is nearly one of these, which is a slip. Text is taken in NFC with newlines as
line ends, so that the corpus and its hash do not depend on the editor that saved it.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tiny_ablation.config.schema import DatasetConfig
from tiny_ablation.data import chat
from tiny_ablation.data.examples import Example, Turns
from tiny_ablation.data.text import SHOWN, canonical, listing
from tiny_ablation.errors import ConfigError, DataError

_REQUIRED = ("clean", "target", "foil")
_OPTIONAL = ("id", "corrupt", "group", "template", "subject", "relation", "split")
_LISTS = ("targets", "foils")
_CHAT = ("messages", "corrupt_messages", "system")
_PLAIN = (*_REQUIRED, *_OPTIONAL, *_LISTS)
_KNOWN = (*_PLAIN, *_CHAT)
# A number is a natural name of a row or a cluster; everywhere else it is a sign of a wrong column.
_MAY_BE_INTEGER = ("id", "group")
_BOM = b"\xef\xbb\xbf"


class _RowError(Exception):
    """What is wrong with one line."""


@dataclass
class _Problems:
    """The first few bad lines and the count of all, so that a million of them cost no memory."""

    shown: list[str] = field(default_factory=list)
    total: int = 0

    def add(self, line: int, fault: str) -> None:
        self.total += 1
        if len(self.shown) < SHOWN:
            self.shown.append(f"line {line}: {fault}")


def read_jsonl(cfg: DatasetConfig) -> list[Example]:
    """The examples of `cfg.path`, in the order of its lines.

    Raises:
        ConfigError: no path, or a renamed field that does not exist here.
        DataError: the file cannot be read, or has bad lines: all of them at once, by number.
    """
    path, fields = _path(cfg), _fields(cfg)
    must_have = {*_REQUIRED, *_renamed(cfg)}
    make = _conversation if cfg.chat else _example
    examples, problems, first_line = [], _Problems(), {}
    for line, raw in _lines(path):
        try:
            example = make(_parse(raw, line), fields, must_have, line)
            if example.id in first_line:
                raise _RowError(f"id {example.id!r} already stands in line {first_line[example.id]}")
        except _RowError as error:
            problems.add(line, str(error))
        else:
            first_line[example.id] = line
            examples.append(example)
    if problems.total:
        count = "a bad line" if problems.total == 1 else f"{problems.total} bad lines"
        raise DataError(f"{path} has {count}: {listing(problems.shown, problems.total, '; ')}.")
    return examples


def read_rows(cfg: DatasetConfig) -> Iterator[Mapping[str, Any]]:
    """The rows of `cfg.path` as they stand there, in the order of its lines; for a file that `read_jsonl` accepts."""
    return (_parse(raw, line) for line, raw in _lines(_path(cfg)))


def _path(cfg: DatasetConfig) -> Path:
    if not cfg.path:
        raise ConfigError("dataset.path is not set; give your file: dataset=jsonl dataset.path=FILE.jsonl.")
    return Path(cfg.path).expanduser()


def _fields(cfg: DatasetConfig) -> dict[str, str]:
    """The name in the file of each of our fields."""
    renamed = _renamed(cfg)
    unknown = sorted(set(renamed) - set(_KNOWN))
    if unknown:
        raise ConfigError(
            f"dataset.fields renames {', '.join(unknown)}, which is no field of an example; it maps our "
            f"fields to yours, and ours are {', '.join(_KNOWN)}."
        )
    return {name: renamed.get(name, name) for name in (_KNOWN if cfg.chat else _PLAIN)}


def _renamed(cfg: DatasetConfig) -> dict[str, str]:
    """The fields that have another name in the file; null means that they do not."""
    return {name: theirs for name, theirs in cfg.fields.items() if theirs is not None}


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, as bytes, with their numbers from 1; a byte order mark is taken off."""
    try:
        with path.open("rb") as file:
            for line, raw in enumerate(file, start=1):
                raw = raw.removeprefix(_BOM) if line == 1 else raw
                if raw.strip():
                    yield line, raw
    except FileNotFoundError:
        raise DataError(f"dataset.path={path}: there is no such file (looked from {Path.cwd()}).") from None
    except OSError as error:
        raise DataError(f"dataset.path={path} cannot be read: {error.strerror}.") from error


def _parse(raw: bytes, line: int) -> Mapping[str, Any]:
    try:
        row = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        hint = "; save the file as UTF-8" if line == 1 else ""
        raise _RowError(f"not UTF-8 (byte {error.start + 1} of the line){hint}") from None
    except json.JSONDecodeError as error:
        raise _RowError(f"not valid JSON: {error.msg} (column {error.colno})") from None
    except (RecursionError, ValueError):
        raise _RowError("not valid JSON: nested too deeply, or a number too long") from None
    if not isinstance(row, dict):
        raise _RowError(f"a JSON {_kind(row)} where an object with clean, target and foil is needed")
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a row; of a key that stands twice, nobody knows which value was meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise _RowError(f"the key {twice!r} stands twice")
    return found


def _no_number(text: str) -> float:
    raise _RowError(f"{text} is no value of JSON; leave the field out where there is no text")


@lru_cache(maxsize=4096)
def _meant(name: str, known: tuple[str, ...]) -> str | None:
    """The field that a name which is no field is nearly equal to; a file has the same few names in every row."""
    low = name.casefold()
    near = difflib.get_close_matches(low, known, n=1, cutoff=0.86)
    return near[0] if near else next((k for k in known if len(k) > 2 and sorted(k) == sorted(low)), None)


def _refuse_slips(row: Mapping[str, Any], fields: Mapping[str, str]) -> None:
    """Refuse a field that is nearly one of ours, where ours is not there: `grup` would be no group, without a word."""
    known = (*fields.values(), *(name for name in fields if fields[name] != name))
    for name in row:
        meant = None if name in known else _meant(name, known)
        if meant is not None and row.get(meant) is None:
            raise _RowError(f"it has the field {name!r}, which is not read; did you mean {meant!r}?")


def _example(row: Mapping[str, Any], fields: Mapping[str, str], must_have: set[str], line: int) -> Example:
    missing = [name for name in fields if name in must_have and row.get(fields[name]) is None]
    _refuse_slips(row, fields)
    if "clean" in missing and "messages" in row and "messages" not in fields:
        raise _RowError("it has messages; dataset.chat=true renders them")
    if missing:
        raise _RowError(_missing(missing, fields, row))
    given = [name for name in fields if name not in _CHAT and row.get(fields[name]) is not None]
    text: dict[str, Any] = {name: _value(row, name, fields[name]) for name in given}
    row_id = text.pop("id", f"row-{line}")
    group = text.pop("group", "") or text.get("template") or text.get("relation") or row_id
    return Example(**{"corrupt": "", **text}, id=row_id, group=group)


def _conversation(
    row: Mapping[str, Any], fields: Mapping[str, str], must_have: set[str], line: int
) -> Example:
    """An example whose prompts are conversations; its texts are what is said in them."""
    has = lambda name: row.get(fields[name]) is not None  # noqa: E731
    _refuse_slips(row, fields)
    if not has("messages") and not has("clean"):
        raise _RowError(
            f"missing {fields['messages']} or {fields['clean']}; the row has {listing(sorted(row)) or 'nothing'}"
        )
    if has("messages") and (has("clean") or has("system")):
        raise _RowError(
            f"it has {fields['messages']} beside {fields['clean']} or {fields['system']}; give one of them"
        )
    if has("corrupt_messages") and has("corrupt"):
        raise _RowError(f"it has {fields['corrupt_messages']} beside {fields['corrupt']}; give one of them")
    said = lambda name: _text(row[fields[name]], name, fields[name]) if has(name) else ""  # noqa: E731
    turns = _turns(row, fields["messages"]) if has("messages") else chat.asked(said("clean"), said("system"))
    corrupt: Turns = _turns(row, fields["corrupt_messages"]) if has("corrupt_messages") else ()
    if has("corrupt") and said("corrupt"):
        corrupt = chat.reworded(turns, said("corrupt"))
    texts = {fields["clean"]: chat.written(turns), fields["corrupt"]: chat.written(corrupt)}
    plain = _example({**row, **texts}, fields, must_have - {*_CHAT}, line)
    return replace(plain, turns=turns, corrupt_turns=corrupt)


def _turns(row: Mapping[str, Any], theirs: str) -> Turns:
    try:
        turns = chat.turns_of(row[theirs])
    except chat.ChatError as error:
        raise _RowError(f"{theirs} {error}") from None
    if any(_has_lone_surrogate(content) for _, content in turns):
        raise _RowError(f"{theirs} holds half of a surrogate pair, which is no character")
    return turns


def _missing(missing: list[str], fields: Mapping[str, str], row: Mapping[str, Any]) -> str:
    wanted = ", ".join(n if fields[n] == n else f"{fields[n]} (dataset.fields.{n})" for n in missing)
    has = listing(sorted(row)) or "nothing"
    return f"missing {wanted}; the row has {has}; rename with 'dataset.fields={{{missing[0]}: NAME}}'"


def _value(row: Mapping[str, Any], name: str, theirs: str) -> str | tuple[str, ...]:
    value = row[theirs]
    if name not in _LISTS:
        return _text(value, name, theirs)
    if not isinstance(value, list) or not value:
        kind = "an empty list" if value == [] else f"a {_kind(value)}"
        raise _RowError(f"{theirs} is {kind}, not a list of texts")
    return tuple(_text(each, name, f"{theirs}[{i}]") for i, each in enumerate(value))


def _text(value: Any, name: str, theirs: str) -> str:
    if name in _MAY_BE_INTEGER and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _RowError(f"{theirs} is a {_kind(value)}, not text")
    if not value and name in (*_REQUIRED, *_LISTS, "id"):
        raise _RowError(f"{theirs} is empty")
    if not value.isascii() and _has_lone_surrogate(value):
        raise _RowError(f"{theirs} holds half of a surrogate pair, which is no character")
    return canonical(value)


def _has_lone_surrogate(value: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in value)


def _kind(value: object) -> str:
    """What JSON calls a value."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    return {dict: "object", list: "list", str: "string"}.get(type(value), "number")
