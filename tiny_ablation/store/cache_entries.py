"""What stands in the user's cache, for whoever wants to delete it: each store lists its own entries."""

import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from tiny_ablation.store.locks import is_held, is_locked

LEFT = ".tmp-"  # in the names of directories that a killed process left half-made, or half-deleted


@dataclass(frozen=True)
class Entry:
    """One directory of a cache.

    Attributes:
        kind: what it is, for people.
        path: the directory.
        lock: the lock file of the process that makes it.
    """

    kind: str
    path: Path
    lock: Path

    @property
    def size(self) -> int:
        """Bytes on the disk, as far as they can be read."""
        total = 0
        for file in self.path.rglob("*"):
            with contextlib.suppress(OSError):
                total += file.lstat().st_size
        return total

    @property
    def in_use(self) -> bool:
        """Whether a live process makes or uses it."""
        return is_locked(self.lock) or is_held(self.path)

    def delete(self) -> None:
        """Delete it; a kill on the way leaves it whole or under a name that counts as left behind.

        Raises:
            OSError: the system does not let us.
        """
        name = self.path.name.lstrip(".").partition(LEFT)[0]
        trash = self.path.with_name(f".{name}{LEFT}{secrets.token_hex(4)}")
        os.replace(self.path, trash)
        shutil.rmtree(trash)
