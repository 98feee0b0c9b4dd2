"""The finished batches of a run that is under way, so that a rerun goes on where a crash stopped it.

One safetensors file per batch, written whole or not at all. Each names what it belongs to and carries the
SHA-256 of its arrays; a file that belongs elsewhere or is damaged is dropped with a warning and its batch is
computed again.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tiny_ablation.errors import ResultsError
from tiny_ablation.results.store import write_bytes

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)

_SHARD = re.compile(r"batch_(\d{5,9})\.safetensors")


@dataclass(frozen=True)
class PartialStore:
    """Finished batches in `directory`, for the holder of the run directory's lock.

    Args:
        directory: where the files are; made on the first `save`.
        digest: what the batches belong to. It must cover the batching too: under another batch size, batch 3
            holds other examples.
    """

    directory: Path
    digest: str

    def done(self) -> set[int]:
        """The batches that need not be computed again; reads every file, and drops those it cannot use."""
        found = {}
        for path in sorted(self.directory.glob("batch_*.safetensors")):
            if match := _SHARD.fullmatch(path.name):
                found[int(match[1])] = path
        return {batch for batch, path in found.items() if self._usable(batch, path)}

    def save(self, batch: int, arrays: Mapping[str, "np.ndarray"]) -> None:
        """Keep what batch number `batch` gave.

        Args:
            batch: the number of the batch, from 0.
            arrays: numeric or boolean arrays of any shape (no text: keep token ids).
        """
        import numpy as np
        from safetensors.numpy import save

        # safetensors stores the memory as it lies, so a view in another order would come back scrambled.
        ordered = {name: np.array(arrays[name], order="C") for name in sorted(arrays)}
        metadata = {"digest": self.digest, "batch": str(batch), "sha256": _content_hash(ordered)}
        write_bytes(self._path(batch), save(ordered, metadata=metadata))

    def load(self, batch: int) -> dict[str, "np.ndarray"]:
        """The arrays that `save` was given.

        Raises:
            ResultsError: the file is missing, damaged or of another run; run again, and it is computed anew.
        """
        path = self._path(batch)
        try:
            return _read(path, self.digest, batch)
        except _Unusable as error:
            raise ResultsError(f"{path} {error}. Delete it and run again.") from error

    def clear(self) -> None:
        """Delete all batches, once the tables made of them are written."""
        for path in self.directory.glob("batch_*.safetensors"):
            path.unlink(missing_ok=True)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()

    def _path(self, batch: int) -> Path:
        return self.directory / f"batch_{batch:05d}.safetensors"

    def _usable(self, batch: int, path: Path) -> bool:
        try:
            _read(path, self.digest, batch)
        except _Unusable as error:
            logger.warning("%s %s; it is dropped and batch %d is computed again.", path, error, batch)
            path.unlink(missing_ok=True)
            return False
        return True


class _Unusable(Exception):
    """Why a file cannot be used, as a predicate ("is damaged")."""


def _read(path: Path, digest: str, batch: int) -> dict[str, "np.ndarray"]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except FileNotFoundError as error:
        raise _Unusable("is missing") from error
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise _Unusable("is damaged") from error
    if metadata.get("digest") != digest or metadata.get("batch") != str(batch):
        raise _Unusable("belongs to another run or batch")
    if metadata.get("sha256") != _content_hash(arrays):
        raise _Unusable("is damaged (its checksum is wrong)")
    return arrays


def _content_hash(arrays: Mapping[str, "np.ndarray"]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
