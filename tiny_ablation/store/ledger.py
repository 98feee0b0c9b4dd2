"""Which files of a directory are its own: the name and checksum of everything that was written there, in `.ledger` beside it.

A directory of results may hold files of its user as well. Nothing in it is replaced, deleted or listed in a manifest unless it
stands in the ledger, under its name and with the checksum that it has now. A line is on the disk before the file that it names,
so the ledger of a killed process holds all that the process wrote. Writing costs one flush a file; whoever writes holds the
lock of the directory, but for the workers of one run (`claims`), which add to one ledger.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tiny_ablation.errors import ResultsError, said_by_system
from tiny_ablation.paths import inside

NAME = ".ledger"
_GROWS = "grows"  # instead of a checksum
ASIDE = ".kept"  # ends the name of a file that was altered and then written again

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ledger:
    """The files that this package wrote into one directory."""

    root: Path
    token: str  # stands in the names of its temporary files, so that only its own are cleared
    # the checksums of each file, by its name relative to `root` with forward slashes: one for each content that it had
    written: dict[str, set[str]] = field(default_factory=dict)

    def name(self, path: Path) -> str:
        """How the ledger calls a file under its directory."""
        return Path(os.path.abspath(path)).relative_to(os.path.abspath(self.root)).as_posix()

    def owns(self, path: Path) -> bool:
        """Whether the file is there as this package wrote it, in this process or, of one run, in several."""
        if path.is_symlink() or not path.is_file():
            return False
        name, sha256 = self.name(path), sha256_file(path)
        if sha256 not in self.written.get(name, ()) and (now := read_ledger(self.root)):  # other processes may have written it
            for each, sums in now.written.items():
                self.written.setdefault(each, set()).update(sums)
        return sha256 in self.written.get(name, ())

    def files(self) -> dict[str, str]:
        """The checksum of every own file that is there as it was written, by its name; reads them all."""
        places = {name: self.root / name for name in sorted(self.written)}
        return {name: sha256_file(path) for name, path in places.items() if self.owns(path)}

    def admit(self, path: Path, sha256: str) -> None:
        """Let `path` be written: note what it will hold, and put an altered file of its own aside.

        Raises:
            ResultsError: a file stands there that this package did not write.
        """
        if os.path.lexists(path) and not self.owns(path):
            if self.name(path) not in self.written:
                raise ResultsError(
                    f"{path} was not written by tiny-ablate and is not replaced; move it elsewhere, then the same command again"
                )
            self._put_aside(path)
        self.note(path, sha256)

    def admit_log(self, path: Path) -> None:
        """Let `path` be appended to; it has no checksum, and is never deleted."""
        if path.is_symlink() or (path.exists() and self.name(path) not in self.written):
            raise ResultsError(f"{path} was not written by tiny-ablate and is not appended to")
        self.note(path, _GROWS)

    def delete(self, path: Path) -> None:
        """Delete a file of its own; one that was altered since is put aside, and any other stays."""
        sums = self.written.get(self.name(path), {_GROWS})
        if self.owns(path):
            path.unlink()
        elif _GROWS not in sums and os.path.lexists(path):
            self._put_aside(path)

    def note(self, path: Path, sha256: str) -> None:
        """Say what `path` will hold, before it is written."""
        if sha256 not in self.written.get(self.name(path), ()):
            self.written.setdefault(self.name(path), set()).add(sha256)
            _append(self.root, {"token": self.token, "file": self.name(path), "sha256": sha256})

    def _put_aside(self, path: Path) -> None:
        taken = (path.with_name(f"{path.name}{ASIDE}{n}") for n in ("", *map(str, range(2, 10_000))))
        aside = next(each for each in taken if not os.path.lexists(each))
        path.rename(aside)
        logger.warning("%s was altered since it was written; it is kept as %s.", path, aside.name)


_open: dict[Path, Ledger] = {}  # of this process, by the absolute path of their directories


@contextlib.contextmanager
def keeping(root: Path) -> Iterator[Ledger]:
    """Keep a ledger of everything that is written under `root`, from where an earlier one ended; makes the directory.

    A ledger that is open already is used again.
    """
    place = Path(os.path.abspath(root))
    if place in _open:
        yield _open[place]
        return
    root.mkdir(parents=True, exist_ok=True)
    _open[place] = open_ledger(root)
    try:
        yield _open[place]
    finally:
        del _open[place]


def open_ledger(root: Path) -> Ledger:
    """The ledger of a directory that is there, begun where it has none; hold the lock of the directory to write by it."""
    path = root / NAME
    if read_ledger(root) is None:
        if os.path.lexists(path) and (path.is_symlink() or path.stat().st_size):
            raise ResultsError(f"{path} was not written by tiny-ablate; move it elsewhere")
        _append(root, {"token": secrets.token_hex(4)})
    found = read_ledger(root)
    if found is None:
        raise ResultsError(f"Cannot read {path}; check the permissions.")
    return found


def ledger_of(path: Path) -> Ledger | None:
    """The ledger that is being kept of the directory nearest above `path`, if any."""
    return next((_open[each] for each in Path(os.path.abspath(path)).parents if each in _open), None)


def read_ledger(root: Path) -> Ledger | None:
    """The ledger of a directory as it stands; None where there is none. Lines that make no sense are skipped."""
    try:
        if (root / NAME).is_symlink():
            return None
        text = (root / NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    lines = [line for line in map(_line, text.splitlines()) if line]
    token = next((line["token"] for line in lines), None)
    if token is None:
        return None
    ledger = Ledger(root, token)
    for line in lines:
        if "file" in line:
            ledger.written.setdefault(line["file"], set()).add(line["sha256"])
    return ledger


def _line(text: str) -> Mapping[str, str] | None:
    try:
        line = json.loads(text)
        texts = [line["token"], *(line["file"], line["sha256"])] if "file" in line else [line["token"]]
        inside(line.get("file", NAME))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return line if all(isinstance(each, str) for each in texts) and line["token"].isalnum() else None


def _append(root: Path, line: Mapping[str, str]) -> None:
    """Add a line, behind what a killed process may have left of one, and flush it."""
    path = root / NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            with contextlib.suppress(OSError, ImportError):  # workers of one run add lines from several machines
                import fcntl

                fcntl.lockf(descriptor, fcntl.LOCK_EX)
            data = f"\n{json.dumps(line)}\n".encode()
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ResultsError(f"Cannot write {path}: {said_by_system(error)}") from error


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; reads the file once, in pieces."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ResultsError(f"Cannot read {path}: {said_by_system(error)}") from error
