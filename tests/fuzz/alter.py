"""Good files, altered as a stranger might: what is drawn decides what becomes of which file.

`Draws` hides who draws: hypothesis in the property tests, the bytes of the coverage-guided fuzzer in `tests/fuzz/run.py`.
"""

import io
import json
import struct
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

T = TypeVar("T")
SCRIPT = "<script>document.title='owned'</script>"
DEEP: Any = None
for _ in range(400):
    DEEP = [DEEP]
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    2**31,
    -(2**31),
    2**63,
    2**64,
    10**400,
    0.5,
    -0.0,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "\x1b[31mred\x1b[0m",
    "a\nb\r\nc",
    "\ud800",
    "\u202egnp.exe",
    "..",
    "../../up",
    "/etc/passwd",
    "C:\\up",
    "con:",
    "a/b",
    ".",
    "~",
    SCRIPT,
    "\"'><img src=x onerror=alert(1)>",
    "${oc.env:HOME}",
    "${now:%Y}",
    "{{7*7}}",
    "%s%n",
    "nan",
    "inf",
    "1e999",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": []}},
    [1, "a", None],
    DEEP,
    "zero",
    "z",
    "head",
    "logit_diff",
    "head_impact",
    "metrics/head_impact.parquet",
    "ok",
    "failed",
)
# To be spliced into text: words that mean something to one of the parsers behind the surfaces.
TOKENS = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r",
    b"\xe2\x80\xa8",
    b'"',
    b"{",
    b"}",
    b"[" * 200,
    b"&a [*a,*a]",
    b": ",
    b"- ",
    b"!!python/object/apply:os.system [id]",
    b"${",
    b"${oc.env:HOME}",
    b"_target_: os.system",
    b"NaN",
    b"1e999",
    b"\\ud800",
    b"-1",
    b"18446744073709551616",
    b"../",
    b"<script>",
    b"\x1b[2J",
    b"null",
    b"'",
    b"#",
    b"%",
    b"*",
    b"? ",
    b"|",
    b">",
    b"@package",
)


class Draws(Protocol):
    """A source of choices."""

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        ...

    def some(self, most: int) -> bytes:
        """At most so many bytes."""
        ...


class Least:
    """Always draws the least."""

    def integer(self, low: int, _high: int) -> int:
        return low

    def some(self, _most: int) -> bytes:
        return b""


def one(draws: Draws, options: Sequence[T]) -> T:
    """One of the options."""
    return options[draws.integer(0, len(options) - 1)]


def altered(draws: Draws, files: dict[str, bytes], names: Sequence[str] | None = None) -> dict[str, bytes]:
    """The files with one to three alterations, in `names` only if they are given."""
    out = dict(files)
    for _ in range(draws.integer(1, 3)):
        there = [name for name in names or sorted(out) if name in out]
        if there:
            _alter(draws, out, one(draws, there))
    return out


def _alter(draws: Draws, files: dict[str, bytes], name: str) -> None:
    how = draws.integer(0, 9)
    if how == 0:
        files[name] = spliced(draws, files[name])
    elif how == 1:
        del files[name]
    elif name.endswith(".json"):
        files[name] = json_altered(draws, files[name])
    elif name.endswith(".parquet"):
        files[name] = table_altered(draws, files[name])
    elif name.endswith(".safetensors"):
        files[name] = header_altered(draws, files[name])
    else:
        files[name] = spliced(draws, files[name])


def spliced(draws: Draws, content: bytes) -> bytes:
    """Some bytes replaced by a token or by anything."""
    first = draws.integer(0, len(content))
    last = min(len(content), first + draws.integer(0, 16))
    new = one(draws, TOKENS) if draws.integer(0, 1) else draws.some(16)
    if draws.integer(0, 15) == 0:
        return content[:first] + new
    return content[:first] + new + content[last:]


def json_altered(draws: Draws, content: bytes) -> bytes:
    """One value of a JSON file replaced, removed, or put under another name."""
    try:
        root = json.loads(content)
    except (ValueError, RecursionError):
        return spliced(draws, content)
    return dumped(_node_altered(draws, root))


def dumped(value: Any) -> bytes:
    """As JSON; Python's words for NaN and infinity stay, as other programs write them."""
    return json.dumps(value).encode()


def _node_altered(draws: Draws, node: Any) -> Any:
    if not isinstance(node, dict | list) or not node or draws.integer(0, 5) == 0:
        return one(draws, HOSTILE)
    if isinstance(node, list):
        i = draws.integer(0, len(node) - 1)
        return [*node[:i], _node_altered(draws, node[i]), *node[i + 1 :]]
    key = one(draws, list(node))
    how = draws.integer(0, 7)
    if how == 0:
        return {name: value for name, value in node.items() if name != key}
    if how == 1:
        return {(str(one(draws, HOSTILE)) if name == key else name): value for name, value in node.items()}
    return {**node, key: _node_altered(draws, node[key])}


def table_altered(draws: Draws, content: bytes) -> bytes:
    """A Parquet file with a column gone, renamed, of another type or with other values, or with other rows."""
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError, ValueError):
        return spliced(draws, content)
    how, column = draws.integer(0, 6), draws.integer(0, max(0, table.num_columns - 1))
    if not table.num_columns or how == 0:
        changed = table.slice(0, draws.integer(0, min(2, len(table))))
    elif how == 1:
        changed = table.remove_column(column)
    elif how == 2:
        names = [
            str(one(draws, HOSTILE)).encode(errors="replace").decode() if i == column else name
            for i, name in enumerate(table.column_names)
        ]
        changed = table.rename_columns(names)
    elif how == 3:
        changed = pa.concat_tables([table, table.slice(0, min(3, len(table)))])
    else:
        changed = table.set_column(column, table.column_names[column], _values(draws, len(table)))
    sink = io.BytesIO()
    pq.write_table(changed, sink)
    return sink.getvalue()


def _values(draws: Draws, n: int) -> pa.Array:
    kinds: tuple[tuple[Any, ...], ...] = (
        (None,),
        (float("nan"), 1.0),
        (float("inf"), 1.0),
        (1e308, -1e308),
        (2**31 - 1, 0),
        (-1, 0),
        (2**62, -(2**62)),
        (SCRIPT, "a"),
        ("\0", "../../up"),
        ("", None),
        (True, False),
        (b"\xff", b""),
        ([1], []),
        (0, 1),
        (0.0, -0.5),
    )
    kind = one(draws, kinds)
    return pa.array([kind[i % len(kind)] for i in range(n)])


def header_altered(draws: Draws, content: bytes) -> bytes:
    """A safetensors file with something else in its header, whose length is right, or not."""
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError, struct.error):
        return spliced(draws, content)
    new = dumped(_node_altered(draws, header))
    told = len(new) if draws.integer(0, 3) else one(draws, (0, 1, length, 2**31, 2**62, 2**64 - 1))
    return struct.pack("<Q", told) + new + content[8 + length :]
