"""Text to train autoencoders on: a file, a directory, a hub data set, or what every Python installation has.

The interpreter's documentation is English prose of about 1.7 million characters: the language reference behind `help()`, and
the long docstrings of the standard library. It is technical in tone, which is what an autoencoder of it knows best.
"""

import ast
import hashlib
import json
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiny_ablation.data.arrow_rows import HUB
from tiny_ablation.data.text import canonical
from tiny_ablation.errors import DataError, first_line

SUFFIXES = (".txt", ".md", ".rst", ".jsonl")
LONG = 200  # characters; shorter docstrings hold little prose
PIECE = 4000  # characters; longer documents are cut, so that held-out text comes from many places
_NO_PROSE = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}


def documents(corpus: str | None) -> Iterator[str]:
    """The pieces of the text that `sae.corpus` names, in a fixed order.

    Raises:
        DataError: there is no such text, or it cannot be read.
    """
    if corpus is None:
        found = _built_in()
    elif corpus.startswith(HUB):
        found = _hub(corpus.removeprefix(HUB))
    else:
        found = (text for path in _files(corpus) for text in _read(path))
    for text in found:
        yield from pieces(canonical(text).strip())


def content_id(corpus: str | None) -> str:
    """What identifies the text, found without reading all of it where that would take long.

    Raises:
        DataError: there is no such file.
    """
    if corpus is None:
        return f"python-{platform.python_version()}"
    if corpus.startswith(HUB):
        return corpus
    digest = hashlib.sha256()
    for path in _files(corpus):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"files:{digest.hexdigest()}"


def pieces(text: str) -> Iterator[str]:
    """The text cut at line ends into parts of at most `PIECE` characters, as far as its lines allow."""
    part = ""
    for line in text.splitlines(keepends=True):
        if part and len(part) + len(line) > PIECE:
            yield part
            part = ""
        part += line
    if part.strip():
        yield part


def _files(corpus: str) -> list[Path]:
    path = Path(corpus).expanduser()
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    if not found:
        what = f"holds no {', '.join(SUFFIXES)} file" if path.is_dir() else "is no file or directory"
        raise DataError(f"sae.corpus={corpus}: it {what}; give a text file, a directory of them, or hub:OWNER/NAME")
    return found


def _read(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"sae.corpus: {path} cannot be read as UTF-8 text: {error}") from error
    if path.suffix != ".jsonl":
        yield text
        return
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            yield json.loads(line)["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'sae.corpus: {path}, line {number}: it is no object with a "text"') from error


def _hub(name: str) -> Iterator[str]:
    """The texts of a data set's training part, streamed."""
    import datasets

    try:
        rows: Any = datasets.load_dataset(name, split="train", streaming=True)
        for row in rows:
            yield row["text"]
    except KeyError as error:
        raise DataError(f'sae.corpus=hub:{name}: the data set has no column "text"') from error
    except Exception as error:  # whatever the hub, the network or the format raises
        reason = first_line(error)
        raise DataError(f"sae.corpus=hub:{name} cannot be read from the hub or its cache: {reason}") from error


def _built_in() -> Iterator[str]:
    from pydoc_data import topics

    yield from topics.topics.values()
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if _NO_PROSE & set(path.relative_to(root).parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):  # not Python of this version
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text and len(text) > LONG:
                    yield text
