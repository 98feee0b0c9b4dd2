"""Who is at work where: locks that the system drops when a process dies, so that a crash never leaves anything locked."""

import contextlib
import os
from pathlib import Path

_held: dict[Path, int] = {}


def is_locked(path: Path) -> bool:
    """Whether a live process holds the lock file `path`; one that a dead process left says nothing."""
    from filelock import FileLock, Timeout

    if not path.is_file():
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
