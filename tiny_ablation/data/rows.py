"""A user's own corpus: rows of a file, of a directory that `datasets` saved, or of a data set of the hub.

`FORMATS` says which suffixes are read. Required are `clean` and `target`. Optional are `foil` (metrics that compare the target
with it need it), `corrupt` (empty: zero and mean ablation do not need it), `id` (`row-12` for the twelfth row, or line 12 of
JSONL), `template`, `relation`, `subject`, `split` and `group`, which is the template, else the relation, else the id: a row
that names nothing it shares with others is its own cluster.
`targets` and `foils` are lists, for rows with several right or wrong answers: target and foil are among them.
With `dataset.chat` a row is a conversation: `messages`, a list of `role` and `content`, or `clean`, which the user says, with
`system`; and `corrupt_messages`, or `corrupt`, which takes the place of the last turn.
Other fields are ignored, unless their name is nearly one of these, which is a slip. Text is taken in NFC with newlines as
line ends, so that the corpus and its hash depend neither on the format nor on the editor that saved it.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tiny_ablation.config.schema import DatasetConfig
from tiny_ablation.data import chat
from tiny_ablation.data.arrow_rows import HUB, hub_rows, parquet_rows, saved_rows
from tiny_ablation.data.examples import Example, Turns
from tiny_ablation.data.text import SHOWN, canonical, listing
from tiny_ablation.data.text_rows import Fields, Row, RowError, json_kind, json_lines, json_rows, separated
from tiny_ablation.errors import ConfigError, DataError

_REQUIRED = ("clean", "target")
_OPTIONAL = ("foil", "id", "corrupt", "group", "template", "subject", "relation", "split")
_LISTS = ("targets", "foils")
_CHAT = ("messages", "corrupt_messages", "system")
_PLAIN = (*_REQUIRED, *_OPTIONAL, *_LISTS)
_KNOWN = (*_PLAIN, *_CHAT)
# A number is a natural name of a row or a cluster; everywhere else it is a sign of a wrong column.
_MAY_BE_INTEGER = ("id", "group")

FORMATS: Mapping[str, Callable[[Path, Fields], Iterator[Row]]] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_rows,
    ".csv": partial(separated, ","),
    ".tsv": partial(separated, "\t"),
    ".parquet": parquet_rows,
    "": json_lines,  # a pipe
}
"""The reader of each suffix."""


def read_examples(cfg: DatasetConfig) -> list[Example]:
    """The examples of `cfg.path`, in the order of its rows.

    Raises:
        ConfigError: no path, or a renamed field that does not exist here.
        DataError: the file cannot be read, or has bad rows: all of them at once, by line or number.
    """
    fields = _fields(cfg)
    must_have = {*_REQUIRED, *_renamed(cfg)}
    make = _conversation if cfg.chat else _example
    examples, places = [], {}
    problems, shown = 0, []  # the first few bad rows and the count of all, so that a million of them cost no memory
    for row in _rows(cfg):
        try:
            example = make(row.read(), fields, must_have, row.number)
            if example.id in places:
                raise RowError(f"id {example.id!r} already stands in {places[example.id]}")
        except RowError as error:
            problems += 1
            if len(shown) < SHOWN:
                shown.append(f"{row.where}: {error}")
        else:
            places[example.id] = row.where
            examples.append(example)
    if problems:
        word = shown[0].partition(" ")[0]
        count = f"a bad {word}" if problems == 1 else f"{problems} bad {word}s"
        raise DataError(f"{cfg.path} has {count}: {listing(shown, problems, '; ')}.")
    return examples


def read_rows(cfg: DatasetConfig) -> Iterator[Mapping[str, Any]]:
    """The rows of `cfg.path` as they stand there, in their order; for a file that `read_examples` accepts."""
    return (row.read() for row in _rows(cfg))


def _rows(cfg: DatasetConfig) -> Iterator[Row]:
    if not cfg.path:
        raise ConfigError("dataset.path is not set; give your file: dataset=file dataset.path=FILE.")
    if cfg.path.startswith(HUB):
        yield from hub_rows(cfg.path.removeprefix(HUB), _fields(cfg))
        return
    path = Path(cfg.path).expanduser()
    suffix = path.suffix.lower()
    try:
        if not path.is_dir() and suffix not in FORMATS:
            raise DataError(
                f"dataset.path={path}: {path.suffix} is no format that is read; save it as one of "
                f"{', '.join(filter(None, FORMATS))}."
            )
        yield from (saved_rows if path.is_dir() else FORMATS[suffix])(path, _fields(cfg))
    except FileNotFoundError:
        raise DataError(f"dataset.path={path}: there is no such file (looked from {Path.cwd()}).") from None
    except OSError as error:
        raise DataError(f"dataset.path={path} cannot be read: {error.strerror or error}.") from error


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
            raise RowError(f"it has the field {name!r}, which is not read; did you mean {meant!r}?")


def _example(row: Mapping[str, Any], fields: Mapping[str, str], must_have: set[str], line: int) -> Example:
    missing = [name for name in fields if name in must_have and row.get(fields[name]) is None]
    _refuse_slips(row, fields)
    if "clean" in missing and "messages" in row and "messages" not in fields:
        raise RowError("it has messages; dataset.chat=true renders them")
    if missing:
        wanted = ", ".join(n if fields[n] == n else f"{fields[n]} (dataset.fields.{n})" for n in missing)
        has = listing(sorted(row)) or "nothing"
        raise RowError(f"missing {wanted}; the row has {has}; rename with 'dataset.fields={{{missing[0]}: NAME}}'")
    given = [name for name in fields if name not in _CHAT and row.get(fields[name]) is not None]
    text: dict[str, Any] = {name: _value(row, name, fields[name]) for name in given}
    row_id = text.pop("id", f"row-{line}")
    group = text.pop("group", "") or text.get("template") or text.get("relation") or row_id
    return Example(**{"corrupt": "", "foil": "", **text}, id=row_id, group=group)


def _conversation(row: Mapping[str, Any], fields: Mapping[str, str], must_have: set[str], line: int) -> Example:
    """An example whose prompts are conversations; its texts are what is said in them."""
    has = lambda name: row.get(fields[name]) is not None  # noqa: E731
    _refuse_slips(row, fields)
    if not has("messages") and not has("clean"):
        raise RowError(f"missing {fields['messages']} or {fields['clean']}; the row has {listing(sorted(row)) or 'nothing'}")
    if has("messages") and (has("clean") or has("system")):
        raise RowError(f"it has {fields['messages']} beside {fields['clean']} or {fields['system']}; give one of them")
    if has("corrupt_messages") and has("corrupt"):
        raise RowError(f"it has {fields['corrupt_messages']} beside {fields['corrupt']}; give one of them")
    said = lambda name: _text(row[fields[name]], name, fields[name]) if has(name) else ""  # noqa: E731
    turns = _turns(row, fields["messages"]) if has("messages") else chat.asked(said("clean"), said("system"))
    corrupt: Turns = _turns(row, fields["corrupt_messages"]) if has("corrupt_messages") else ()
    if has("corrupt") and said("corrupt"):
        corrupt = (*turns[:-1], (turns[-1][0], said("corrupt")))
    texts = {fields["clean"]: chat.written(turns), fields["corrupt"]: chat.written(corrupt)}
    plain = _example({**row, **texts}, fields, must_have - {*_CHAT}, line)
    return replace(plain, turns=turns, corrupt_turns=corrupt)


def _turns(row: Mapping[str, Any], theirs: str) -> Turns:
    try:
        turns = chat.turns_of(row[theirs])
    except chat.ChatError as error:
        raise RowError(f"{theirs} {error}") from None
    for _, content in turns:
        _refuse_half_characters(content, theirs)
    return turns


def _value(row: Mapping[str, Any], name: str, theirs: str) -> str | tuple[str, ...]:
    value = row[theirs]
    if name not in _LISTS:
        return _text(value, name, theirs)
    if not isinstance(value, list) or not value:
        kind = "an empty list" if value == [] else f"a {json_kind(value)}"
        raise RowError(f"{theirs} is {kind}, not a list of texts")
    return tuple(_text(each, name, f"{theirs}[{i}]") for i, each in enumerate(value))


def _text(value: Any, name: str, theirs: str) -> str:
    if name in _MAY_BE_INTEGER and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise RowError(f"{theirs} is a {json_kind(value)}, not text")
    if not value and name in (*_REQUIRED, *_LISTS, "foil", "id"):
        raise RowError(f"{theirs} is empty")
    _refuse_half_characters(value, theirs)
    return canonical(value)


def _refuse_half_characters(text: str, theirs: str) -> None:
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise RowError(f"{theirs} holds half of a surrogate pair, which is no character")
