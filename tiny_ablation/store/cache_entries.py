"""What stands in the user's cache, for whoever wants to delete it: each store lists its own entries.

The cache may be a directory in which a user keeps other things. Every entry carries a mark from its beginning, and a finished
one the list of its files, so that nothing else counts as one.
"""

import contextlib
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from tiny_ablation.store.locks import is_held, is_locked

LEFT = ".tmp-"  # in the names of directories that a killed process left half-made, or half-deleted
MARK = ".tiny-ablate"  # the name of the file that tells an entry from a directory of the user's


def mark(directory: Path) -> None:
    """Make a directory one of ours; before anything is put into it."""
    (directory / MARK).touch()


@dataclass(frozen=True)
class Entry:
    """One directory of a cache."""

    kind: str  # what it is, for people
    path: Path
    lock: Path  # the lock file of the process that makes it
    record: str  # the name of the JSON file that lists the files of a finished entry, under `files`
    more: tuple[str, ...] = ()  # names that a finished entry may hold besides

    @property
    def is_ours(self) -> bool:
        """Whether this package made it: it carries the mark, or, of an earlier version, its record."""
        if self.path.is_symlink() or not self.path.is_dir():
            return False
        return (self.path / MARK).is_file() or self._listed() is not None

    @property
    def foreign(self) -> list[str]:
        """What somebody else put into a finished entry."""
        listed = self._listed()
        if listed is None:
            return []
        return sorted({path.name for path in self.path.iterdir()} - {*listed, self.record, MARK, *self.more})

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
        """Delete it, or raise OSError; a kill on the way leaves it whole or under a name that counts as left behind."""
        name = self.path.name.lstrip(".").partition(LEFT)[0]
        trash = self.path.with_name(f".{name}{LEFT}{secrets.token_hex(4)}")
        mark(self.path)
        os.replace(self.path, trash)
        for each in trash.iterdir():
            if each.name != MARK:
                shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
        shutil.rmtree(trash)

    def _listed(self) -> list[str] | None:
        """The files that the record lists; None where there is no record."""
        try:
            return list(map(str, dict(json.loads((self.path / self.record).read_bytes())["files"])))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
