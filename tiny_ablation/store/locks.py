"""Who is at work where: locks that the system drops when a process dies, so that a crash never leaves anything locked."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tiny_ablation.errors import ResultsError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_held: dict[Path, int] = {}


def lock_file(path: Path, timeout: float = -1) -> "BaseFileLock":
    """A lock that is not taken yet; taking it empties the file, so it must be one of ours."""
    from filelock import FileLock

    if os.path.lexists(path) and not _is_lock(path):
        raise ResultsError(f"{path} was not written by tiny-ablate, which keeps a lock there; move it elsewhere")
    return FileLock(path, timeout=timeout)


@contextlib.contextmanager
def waiting(path: Path, told: Callable[[], object]) -> Iterator[None]:
    """Within: this process holds the lock file `path`; `told` is called once if another must be waited for first."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        told()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_lock(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == 0


def is_locked(path: Path) -> bool:
    """Whether a live process holds the lock file `path`; one that a dead process left says nothing."""
    from filelock import FileLock, Timeout

    if not _is_lock(path):
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a directory of someone else's, which only they can be writing in
        return False


def hold(directory: Path) -> Path:
    """Mark a directory as in use by this process, until it ends; several processes may hold one.

    Where the system has no such locks (Windows, some network file systems) nothing is marked.
    """
    if directory not in _held:
        with contextlib.suppress(OSError, ImportError):
            _held[directory] = _flock(directory, shared=True)
    return directory


def is_held(directory: Path) -> bool:
    """Whether a live process, this one or another, holds a directory."""
    try:
        os.close(_flock(directory, shared=False))
    except ImportError:
        return False
    except OSError:
        return True
    return False


def _flock(directory: Path, *, shared: bool) -> int:
    """An open descriptor of the directory with a lock on it, which closing it drops."""
    import fcntl

    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
