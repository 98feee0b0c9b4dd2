"""Files that are there whole or not at all.

Every write goes to a temporary file in the target's own directory, is flushed to the disk, and then replaces
the target in one step; the directory is flushed last, so that the new name survives a power cut as well. A
reader sees the old file or the new one, never half of either, and a crash leaves at most a stray `.tmp-*`
file for `clean_stale`. The cost is two or three flushes a file (milliseconds), so write batches rather than rows. It
does not keep two writers apart: that is `RunDir.lock`.

JSON and tables have one byte sequence per content, so equal results are equal files.
"""

import contextlib
import errno
import json
import math
import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tiny_ablation.errors import GuardError, ResultsError, first_line, said_by_system
from tiny_ablation.store.ledger import ledger_of, sha256_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TEMP_PREFIX = ".tmp-"
ANEW = "Run again to make it anew."

# What some network file systems answer when asked to flush a directory.
_CANNOT_FLUSH_DIRECTORIES = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EISDIR}


def write_via(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file, of the suffix of `path`, that then becomes `path`; missing directories are made.

    Raises:
        ResultsError: the disk is full, the directory is read-only, or the like, or a file stands there that is not of this
            package (see `store.ledger`); `path` is as it was before.
    """
    ledger = ledger_of(path)
    mine = f"{TEMP_PREFIX}{ledger.token if ledger else ''}"
    temporary = path.with_name(f"{mine}{secrets.token_hex(8)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _flush(temporary)
        if ledger:
            ledger.admit(path, sha256_file(temporary))
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        raise ResultsError(f"Cannot write {path}: {said_by_system(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path


def write_bytes(path: Path, data: bytes) -> Path:
    """Write `data` as the whole content of `path`; see `write_via` for the guarantees."""
    return write_via(path, lambda temporary: temporary.write_bytes(data))


def as_written(text: str) -> bytes:
    """The bytes that `write_text` writes for it."""
    return text.encode(errors="backslashreplace")


def write_text(path: Path, text: str) -> Path:
    """Write `text` as UTF-8 with the line ends it has, on every platform.

    Half of a surrogate pair, which is what Python makes of a byte of the command line that is no UTF-8, is written as its
    escape, which JSON reads back.
    """
    return write_bytes(path, as_written(text))


def write_json(path: Path, obj: object) -> Path:
    """Write `obj` as JSON: keys in the order given, two spaces of indent, NaN as null; see `to_json`."""
    return write_text(path, to_json(obj))


def to_json(obj: object) -> str:
    """The one text of `obj`: UTF-8, keys in the order given, shortest exact floats, a line end at the end.

    NaN means "could not be estimated" and becomes null. numpy scalars and arrays, tuples and paths are taken.

    Raises:
        GuardError: a value is infinite, which no result may be, or has no JSON form; the message names its
            key.
    """
    return json.dumps(_plain(obj, ()), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def read_json(path: Path, advice: str = ANEW) -> Any:
    """The content of a JSON file that this package wrote.

    Raises:
        ResultsError: the file is missing, cannot be read or is not JSON, to which NaN and infinity do not belong.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_number, parse_float=_number)
    except OSError as error:
        raise ResultsError(f"Cannot read {path}: {said_by_system(error)}") from error
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path} is damaged: it is not JSON ({error}). {advice}") from error


def read_object(path: Path, advice: str = ANEW) -> dict[str, Any]:
    """The content of a JSON file that holds an object; raises as `read_json`, and where it holds anything else."""
    content = read_json(path, advice)
    if not isinstance(content, dict):
        raise ResultsError(f"{path} is damaged: it holds no JSON object. {advice}")
    return content


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _number(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _no_number(text)


def write_table(path: Path, table: "pd.DataFrame | pa.Table") -> Path:
    """Write a table as Parquet, the same bytes for the same columns, types and rows.

    Columns hold numbers, booleans or strings (in Arrow also dictionaries of strings). Strings are dictionary-encoded and
    everything is compressed with zstd. The index and what pandas would add about itself are left out; NaN becomes null.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = table.unify_dictionaries() if isinstance(table, pa.Table) else _to_arrow(table)
    strings = [column.name for column in arrow.schema if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)]

    how: dict[str, Any] = {"version": "2.6", "data_page_version": "1.0", "compression": "zstd", "compression_level": 3}
    how |= {"use_dictionary": strings, "store_schema": False, "row_group_size": 1 << 20}
    return write_via(path, lambda temporary: pq.write_table(arrow, temporary, **how))


def read_table(path: Path) -> "pd.DataFrame":
    """The rows of a Parquet file. Raises ResultsError: the file is missing, cannot be read or is not Parquet."""
    return read_arrow(path).to_pandas()


def read_arrow(
    path: Path, columns: Sequence[str] | None = None, dictionaries: Sequence[str] | None = None, advice: str = ANEW
) -> "pa.Table":
    """The rows of a Parquet file as an Arrow table, which is quick to read in part and to put together.

    A name of `columns` that the file does not have is left out. The text columns named by `dictionaries` stay codes into a
    list of distinct texts.

    Raises:
        ResultsError: the file is missing, cannot be read or is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Bytes rather than the path: pyarrow would read `a=b` in a directory's name as a partition column.
        source = pa.BufferReader(path.read_bytes())
        schema = pq.read_schema(source)
        leaves = [leaf for leaf in pq.ParquetFile(source).schema if leaf.physical_type == "BYTE_ARRAY"]
        # Text, in lists as well, is read as codes and written out once it is known how much that is.
        texts = [leaf.path for leaf in leaves if leaf.logical_type.type in ("STRING", "NONE")]
        file = pq.ParquetFile(source, read_dictionary=texts)
        # A few kilobytes of Parquet can stand for more rows, or for longer ones, than any memory holds.
        rows, groups = file.metadata.num_rows, range(file.metadata.num_row_groups)
        encoded = sum(file.metadata.row_group(i).total_byte_size for i in groups)
        _refuse_size(rows, max(encoded, 8 * rows * file.metadata.num_columns))
        wanted = None if columns is None else [name for name in columns if name in schema.names]
        # One thread: most files are small, and handing their columns around costs more than it saves.
        return _written_out(file.read(columns=wanted, use_threads=False), schema, set(dictionaries or ()))
    except OSError as error:
        raise ResultsError(f"Cannot read {path}: {said_by_system(error)}") from error
    except (pa.ArrowException, ValueError) as error:
        raise ResultsError(f"{path} is damaged: {first_line(error)}. {advice}") from error


def _refuse_size(rows: int, size: int) -> None:
    import psutil

    if size > psutil.virtual_memory().available:
        raise ValueError(f"its {rows:,} rows would take {size / 2**30:.0f} GB")


def _written_out(table: "pa.Table", schema: "pa.Schema", codes: Collection[str]) -> "pa.Table":
    """The table with its texts written out, but for the columns that stay codes.

    A text of a megabyte may stand in each of a million rows, which is refused.
    """
    written = [i for i, name in enumerate(table.column_names) if name not in codes]
    _refuse_size(table.num_rows, sum(_text_size(chunk) for i in written for chunk in table.column(i).chunks))
    for i in written:
        field = schema.field(table.column_names[i])
        if table.column(i).type != field.type:
            table = table.set_column(i, field, table.column(i).cast(field.type))
    return table


def _text_size(array: Any) -> int:
    """Bytes of an array's texts written out, of those in lists and structs too."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute  # which makes its functions as it is imported
    if isinstance(array, pa.DictionaryArray):
        if pa.types.is_nested(array.dictionary.type) or pa.types.is_primitive(array.dictionary.type):
            return 0
        return pc.sum(pc.take(pc.binary_length(array.dictionary), array.indices)).as_py() or 0
    if not pa.types.is_nested(array.type):
        return 0
    parts = array.flatten()
    return sum(map(_text_size, parts if isinstance(parts, list) else [parts]))


def delete(path: Path) -> None:
    """Delete a file if it is there; in a directory that keeps a ledger, only one of its own."""
    if ledger := ledger_of(path):
        ledger.delete(path)
    else:
        path.unlink(missing_ok=True)


def clean_stale(directory: Path, token: str = "") -> list[Path]:
    """Delete the temporary files that a killed process left anywhere under `directory`.

    Hold the directory's lock: a temporary file of a living writer looks the same.
    """
    stale = sorted(path for path in directory.rglob(f"{TEMP_PREFIX}{token}*") if path.is_file())
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def _plain(obj: Any, key: tuple[str, ...]) -> Any:
    """`obj` in JSON's own types."""
    if isinstance(obj, float):
        if math.isinf(obj):
            raise GuardError(f"{'.'.join(key) or 'A value'} is infinite; no result may be. It was not written.")
        return None if math.isnan(obj) else float(obj)
    if obj is None or isinstance(obj, bool | int | str):
        return obj
    if isinstance(obj, Mapping):
        return {str(k): _plain(v, (*key, str(k))) for k, v in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(v, (*key, str(i))) for i, v in enumerate(obj)]
    if isinstance(obj, Path):
        return obj.as_posix()
    if hasattr(obj, "tolist"):  # numpy, without importing it
        return _plain(obj.tolist(), key)
    raise GuardError(f"Cannot store {'.'.join(key) or 'a value'} as JSON: it is a {type(obj).__name__}.")


def _to_arrow(table: "pd.DataFrame") -> Any:
    """An Arrow table without pandas' metadata and with one string type, whatever pandas used."""
    import pyarrow as pa

    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    if repeated := sorted({name for name in arrow.column_names if arrow.column_names.count(name) > 1}):
        raise GuardError(f"A table has the column {repeated[0]!r} twice. It was not written.")
    # A column of nothing but missing values has the type null, which other readers of Parquet do not know.
    texts = (pa.types.is_large_string, pa.types.is_dictionary, pa.types.is_null)
    fields = [(each.name, pa.string() if any(is_(each.type) for is_ in texts) else each.type) for each in arrow.schema]
    return arrow.cast(pa.schema(fields))


def flush_files(directory: Path) -> None:
    """Push the files of a directory, and its list of them, to the disk, before it is renamed."""
    for path in (*directory.iterdir(), directory):
        _flush(path)


def _flush(path: Path) -> None:
    """Push a file, or a directory's list of its files, to the disk."""
    is_directory = path.is_dir()
    if is_directory and os.name == "nt":  # Windows cannot open a directory
        return
    descriptor = os.open(path, os.O_RDONLY if is_directory else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_directory or error.errno not in _CANNOT_FLUSH_DIRECTORIES:
            raise
    finally:
        os.close(descriptor)
