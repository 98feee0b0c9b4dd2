"""The finished batches of a run that is under way, so that a rerun goes on where a crash stopped it.

One safetensors file per batch, written whole or not at all. Each says which run it belongs to and what that is made of, and
carries a SHA-256 of all that. A damaged file, and one of this run in another layout, is dropped with a warning and its batch is
computed again; another run's is never dropped unasked: see `another_owner`.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tiny_ablation.config.identity import Identity
from tiny_ablation.errors import ResultsError
from tiny_ablation.store.claims import clear_claims
from tiny_ablation.store.files import clean_stale, delete, write_bytes
from tiny_ablation.store.ledger import ledger_of

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)

_SHARD = re.compile(r"batch_(\d{5,9})\.safetensors")


CLAIMS = "claims"  # the folder of who is at work on which batch


@dataclass(frozen=True)
class PartialStore:
    """Finished batches in a directory, for the holder of the run directory's lock, or for workers that take them by claims."""

    directory: Path  # where the files are; made on the first `save`
    run: Identity  # what the batches belong to
    layout: str = ""  # how its examples are put into batches: under another batch size, batch 3 holds other examples

    def done(self) -> set[int]:
        """The batches that need not be computed again; reads every file, and drops those it cannot use."""
        usable = set()
        for batch, path in _shards(self.directory):
            try:
                self._read(batch, path)
                usable.add(batch)
            except _Unusable as error:
                logger.warning("%s %s; it is dropped and batch %d is computed again.", path, error, batch)
                delete(path)
        return usable

    def save(self, batch: int, arrays: Mapping[str, "np.ndarray"]) -> None:
        """Keep the arrays of batch number `batch`: numeric or boolean ones of any shape (no text: keep token ids)."""
        import numpy as np
        from safetensors.numpy import save

        # safetensors stores the memory as it lies, so a view in another order would come back scrambled.
        ordered = {name: np.array(arrays[name], order="C") for name in sorted(arrays)}
        metadata = {"run": self.run.digest, "covers": json.dumps(self.run.covers), "layout": self.layout, "batch": str(batch)}
        metadata["sha256"] = _content_hash(ordered, metadata)
        write_bytes(self._path(batch), save(ordered, metadata=metadata))

    def load(self, batch: int) -> dict[str, "np.ndarray"]:
        """The arrays that `save` was given.

        Raises:
            ResultsError: the file is missing, damaged or of another run; run again, and it is computed anew.
        """
        path = self._path(batch)
        try:
            return self._read(batch, path)
        except _Unusable as error:
            raise ResultsError(f"{path} {error}. Delete it and run again.") from error

    def has(self, batch: int) -> bool:
        """Whether the file of a batch is there; its content is not looked at."""
        return self._path(batch).is_file()

    def _path(self, batch: int) -> Path:
        return self.directory / f"batch_{batch:05d}.safetensors"

    def _read(self, batch: int, path: Path) -> dict[str, "np.ndarray"]:
        arrays, metadata = _read(path)
        of = [metadata.get(name) for name in ("run", "layout", "batch")]
        if of != [self.run.digest, self.layout, str(batch)]:
            raise _Unusable("belongs to another run, layout or batch")
        return arrays


class Owner(NamedTuple):
    """The run whose finished batches stand in a directory."""

    digest: str
    covers: Mapping[str, Any]
    batches: int


def another_owner(directory: Path, digest: str) -> Owner | None:
    """The run other than `digest` (empty: any) that has whole finished batches in `directory` or in a folder of it, or None."""
    others = [
        other
        for place in (directory, *(path for path in directory.glob("*") if path.is_dir()))
        for _, path in _shards(place)
        if (other := _other(path, digest))
    ]
    return others[0]._replace(batches=len(others)) if others else None


def clear_batches(directory: Path) -> None:
    """Delete all finished batches in `directory` and its folders: their tables are written, or their run is replaced."""
    clear_claims(directory / CLAIMS)
    if ledger := ledger_of(directory / CLAIMS):
        clean_stale(directory, ledger.token)  # of workers that were killed
    for place in (*(path for path in directory.glob("*") if path.is_dir()), directory):
        for _, path in _shards(place):
            delete(path)
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def _shards(directory: Path) -> Iterator[tuple[int, Path]]:
    for path in sorted(directory.glob("batch_*.safetensors")):
        if match := _SHARD.fullmatch(path.name):
            yield int(match[1]), path


def _other(path: Path, digest: str) -> Owner | None:
    """The run other than `digest` that a file is of; None where it is of that one, or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        if "run" not in metadata and "digest" in metadata:  # as earlier versions wrote them
            return Owner(metadata["digest"], {}, 1)
        if metadata.get("run") == digest:
            return None
        said = _read(path)[1]
        return Owner(said["run"], dict(json.loads(said["covers"])), 1)
    except (_Unusable, OSError, SafetensorError, ValueError, TypeError, KeyError, RecursionError):
        return None


class _Unusable(Exception):
    """Why a file cannot be used, as a predicate ("is damaged")."""


def _read(path: Path) -> tuple[dict[str, "np.ndarray"], Mapping[str, str]]:
    """The arrays of a file and what it says of itself, with the hash of both checked."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except FileNotFoundError as error:
        raise _Unusable("is missing") from error
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise _Unusable("is damaged") from error
    if metadata.get("sha256") != _content_hash(arrays, metadata):
        raise _Unusable("is damaged (its checksum is wrong)")
    return arrays, metadata


def _content_hash(arrays: Mapping[str, "np.ndarray"], metadata: Mapping[str, str]) -> str:
    said = [(key, metadata.get(key)) for key in ("run", "covers", "layout", "batch")]
    digest = hashlib.sha256(json.dumps(said).encode())
    for name, array in arrays.items():
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
