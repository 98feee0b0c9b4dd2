"""Rows of Parquet files, of what Hugging Face's `datasets` saved, and of data sets of the hub.

A few kilobytes of a stranger's file may stand for more text than any memory holds, and its offsets may point anywhere: both are
checked before a row is read.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.data.text_rows import Fields, Row, RowError, refuse_twice
from tiny_ablation.errors import DataError, first_line
from tiny_ablation.store.files import read_arrow

if TYPE_CHECKING:
    import pyarrow as pa

HUB = "hub:"
# What `datasets` calls the parts that we call train, dev and test.
_SPLITS = {"train": "train", "validation": "dev", "valid": "dev", "dev": "dev", "test": "test"}

_CODES = ("dictionary", "union", "run_end_encoded", "string_view", "binary_view", "list_view", "large_list_view")


def parquet_rows(path: Path, _: Fields) -> Iterator[Row]:
    """The rows of one Parquet file."""
    if not path.exists():
        raise FileNotFoundError
    yield from _of_batches(path, read_arrow(path, advice="Save it again.").to_batches())


def saved_rows(path: Path, fields: Fields) -> Iterator[Row]:
    """What `save_to_disk` of Hugging Face's `datasets` wrote: one data set, or several by split."""
    states = [path / "state.json"] if (path / "state.json").is_file() else sorted(path.glob("*/state.json"))
    if not states:
        raise DataError(
            f"dataset.path={path} is a directory without state.json, so that save_to_disk of `datasets` did not write it; "
            "give a file."
        )
    parts = {state.parent.name: _shards(state) for state in states}
    yield from _of_parts(path, parts, fields)


def _shards(state: Path) -> "Iterator[pa.RecordBatch]":
    """The batches of the Arrow files that `state.json` lists, each looked through before anything is read from it."""
    import pyarrow as pa

    try:
        names = [each["filename"] for each in json.loads(state.read_bytes())["_data_files"]]
        for name in names:
            with pa.memory_map(str(state.parent / Path(name).name)) as file:
                yield from _batches(pa.ipc.MessageReader.open_stream(file))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
        reason = first_line(error)
        raise DataError(f"{state.parent} is damaged: {reason}. Save it again.") from error


def _batches(messages: "pa.ipc.MessageReader") -> "Iterator[pa.RecordBatch]":
    """The batches of a stream, none of which takes more memory than its file: neither codes nor compressed ones are read."""
    import pyarrow as pa

    first = next(messages, None)
    if first is None:
        raise ValueError("it is empty")
    schema = pa.ipc.read_schema(first)
    for field in schema:
        _refuse_codes(field.type)
    for message in messages:
        if message.type != "record batch" or _is_compressed(message.metadata.to_pybytes()):
            raise ValueError(f"it holds a {message.type} that is compressed or a list of codes")
        batch = pa.ipc.read_record_batch(message, schema)
        batch.validate(full=True)
        yield batch


def _is_compressed(metadata: bytes) -> bool:
    """Whether the head of a record batch names a compression; pyarrow tells nothing of it before it has decompressed all.

    Two FlatBuffers tables: field 2 of `Message` is the header, field 3 of `RecordBatch` its compression (`format/Message.fbs`
    of Arrow). pyarrow has checked that all offsets lie within.
    """

    def field(table: int, number: int) -> int:
        names = table - struct.unpack_from("<i", metadata, table)[0]
        size, at = struct.unpack_from("<H", metadata, names)[0], 4 + 2 * number
        offset = struct.unpack_from("<H", metadata, names + at)[0] if at < size else 0
        return table + offset if offset else 0

    def table(at: int) -> int:
        return at + struct.unpack_from("<I", metadata, at)[0]

    return bool(field(table(field(table(0), 2)), 3))


def _refuse_codes(kind: "pa.DataType") -> None:
    """Refuse a type by which one text can stand in any number of rows; `datasets` writes none."""
    import pyarrow as pa

    if any(getattr(pa.types, f"is_{word}")(kind) for word in _CODES):
        raise ValueError(f"it has a column of {kind}")
    for i in range(kind.num_fields):
        _refuse_codes(kind.field(i).type)


def hub_rows(name: str, fields: Fields) -> Iterator[Row]:
    """A data set of the hub, or of its cache: `OWNER/NAME`, or `OWNER/NAME:SUBSET`."""
    try:
        import datasets
    except ImportError:
        raise DataError(f"dataset.path={HUB}{name} needs `pip install datasets`.") from None
    repository, _, subset = name.partition(":")
    try:
        parts: Any = datasets.load_dataset(repository, subset or None)
        batches = {str(part): iter(rows.data.to_batches()) for part, rows in parts.items()}
    except Exception as error:  # whatever the hub, the network or the format raises
        reason = first_line(error)
        raise DataError(f"dataset.path={HUB}{name} cannot be read from the hub or its cache: {reason}") from error
    yield from _of_parts(name, batches, fields)


def _of_parts(path: object, parts: "Mapping[str, Iterator[pa.RecordBatch]]", fields: Fields) -> Iterator[Row]:
    """The rows of all parts; where there are several, each says which it is of, as far as it has no split of its own."""
    number = 0
    for part, batches in parts.items():
        known = {fields["split"]: _SPLITS.get(part, part)} if len(parts) > 1 else {}
        for row in _of_batches(path, batches):
            number += 1
            yield Row(number, f"row {number}", partial(lambda row, more: {**more, **row.read()}, row, known))


def _of_batches(path: object, batches: "Iterable[pa.RecordBatch]") -> Iterator[Row]:
    number = 0
    for batch in batches:
        refuse_twice(path, batch.schema.names)
        for i in range(batch.num_rows):
            number += 1
            yield Row(number, f"row {number}", partial(_record, batch, i))


def _record(batch: "pa.RecordBatch", i: int) -> Mapping[str, Any]:
    try:
        row = {name: column[i].as_py() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    except (ValueError, OverflowError) as error:
        raise RowError(f"it cannot be read: {error}") from None
    return {name: value for name, value in row.items() if value is not None}
