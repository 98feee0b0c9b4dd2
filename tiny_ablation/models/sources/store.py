"""The cache of converted models: a directory is whole and as it was written, or it is made again.

    <cache>/models/<key>/            the model, with `source.json`: its origin and the SHA-256 of every file
    <cache>/models/.<key>.lock       held by the process that makes it; others wait
    <cache>/models/.<key>.tmp-*      half-made; what a killed process left is swept by the next one

Reading takes no lock. It hashes every file (one second per 700 MB, once per process), so that a flipped
byte is found before it becomes a result.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tiny_ablation.errors import ModelError, ResultsError, TinyAblateError, disk_trouble
from tiny_ablation.models.sources.files import checksum
from tiny_ablation.models.sources.progress import notice
from tiny_ablation.paths import cache_dir
from tiny_ablation.store.cache_entries import LEFT, MARK, Entry, mark
from tiny_ablation.store.files import flush_files, sha256_file, to_json
from tiny_ablation.store.locks import hold, waiting

RECORD = "source.json"
SCHEMA = 1  # raise it when the conversion changes: it is part of every directory's name


def converted(name: str, weights_id: str, build: Callable[[Path], dict[str, str]]) -> Path:
    """The directory of a converted model, made with `build` if it is not there or not as it was written.

    Args:
        name: begins the directory's name, for people.
        weights_id: what it is made from, `<kind>:<sha256>`.
        build: fills the empty directory that it is given and returns facts about the tools it used.

    Raises:
        ModelError: the cache cannot be written, or what `build` raises.
    """
    target = place(name, weights_id)
    root = target.parent
    if target.is_dir() and damage(target, weights_id) is None:
        return hold(target)
    with making(root / f".{target.name}.lock", f"preparing {name}", "the converted model"):
        for left in root.glob(f".{target.name}{LEFT}*"):
            shutil.rmtree(left, ignore_errors=True)
        if target.exists() and (problem := damage(target, weights_id)):
            notice(f"{target}: {problem}; deleting it and making it again.")
            # Out of the way in one step, so that a kill in the middle cannot leave half a model under its name.
            trash = Path(tempfile.mkdtemp(prefix=f".{target.name}{LEFT}", dir=root))
            mark(trash)
            os.replace(target, trash / target.name)
            shutil.rmtree(trash, ignore_errors=True)
        if not target.exists():
            _make(target, weights_id, build)
    return hold(target)


@contextmanager
def making(lock: Path, doing: str, what: str) -> Iterator[None]:
    """Within: this process alone makes an entry of a cache; others that are `doing` it wait.

    Raises:
        ModelError: the cache, the directory of the lock file, cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with waiting(lock, lambda: notice(f"Another process is {doing}; waiting for it.")):
            yield
    except Exception as error:
        if told := cannot_keep(error, f"{what} in {lock.parent}"):
            raise told from error
        raise


def cannot_keep(error: Exception, what: str) -> ModelError | None:
    """What to tell when the cache cannot be written; None for an error of another kind."""
    cause = error.__cause__ if isinstance(error, ResultsError) and error.__cause__ else error
    if not isinstance(cause, OSError) and not disk_trouble(cause):
        return None
    told = cause.strerror if isinstance(cause, OSError) else None
    said = told or (disk_trouble(cause) or str(cause)).partition(";")[0]
    return ModelError(
        f"cannot keep {what}: {said}. Free some space there, or choose another place with the environment variable "
        "TINY_ABLATE_CACHE."
    )


def entries() -> Iterator[Entry]:
    """What is there, finished or left behind."""
    for path in sorted((cache_dir() / "models").glob("*")):
        name, left, _ = path.name.lstrip(".").partition(LEFT)
        kind = "left behind" if left else "rows" if name.startswith("rows-") else "model"
        if (entry := Entry(kind, path, path.with_name(f".{name}.lock"), RECORD)).is_ours:
            yield entry


def place(name: str, weights_id: str) -> Path:
    """Where the converted model is, or would be."""
    return cache_dir() / "models" / f"{name}-{weights_id.partition(':')[2][:12]}-v{SCHEMA}"


def damage(directory: Path, weights_id: str) -> str | None:
    """What is wrong with a converted model, in words; None when it is exactly as it was written."""
    try:
        record = json.loads((directory / RECORD).read_bytes())
        if record["schema"] != SCHEMA or record["weights_id"] != weights_id:
            return f"its {RECORD} is of another model"
        for name, expected in record["files"].items():
            if checksum(directory / name) != expected:
                return f"{name} has been altered"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, TinyAblateError):
        return "files are missing or cannot be read"
    return None


def _make(target: Path, weights_id: str, build: Callable[[Path], dict[str, str]]) -> None:
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}{LEFT}", dir=target.parent))
    try:
        mark(staging)
        tools = build(staging)
        names = sorted(path.name for path in staging.iterdir() if path.name != MARK)
        files = {name: sha256_file(staging / name) for name in names}
        record = {"schema": SCHEMA, "weights_id": weights_id, "tools": tools, "files": files}
        (staging / RECORD).write_text(to_json(record), encoding="utf-8")
        flush_files(staging)  # so that the rename cannot overtake the content
        os.replace(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
