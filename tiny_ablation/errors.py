"""The errors that a person may see.

Each message says what is wrong, where (config key, file, line) and what to do. `cli.main` prints it on
one line without a traceback and exits with `exit_code`. Every class takes the message alone, so that an error
survives being pickled between processes. `user_message` tells what is no error of this package's own but has a meaning for
people: a full disk, too little memory, a worker that does not answer.
"""

import contextlib
import difflib
import errno
import os
import re
from collections.abc import Iterable, Iterator

_ELSEWHERE = "choose another directory with hydra.run.dir=DIR."
_ADVICE = {
    errno.ENOSPC: f"free some space or {_ELSEWHERE}",
    errno.EDQUOT: f"free some space or {_ELSEWHERE}",
    errno.EFBIG: f"raise the file size limit (ulimit -f) or {_ELSEWHERE}",
    errno.EROFS: _ELSEWHERE,
    errno.EACCES: f"check the permissions, or {_ELSEWHERE}",
    errno.EPERM: f"check the permissions, or {_ELSEWHERE}",
}
_PATHS = {
    errno.ENAMETOOLONG: "shorten the path.",
    errno.ELOOP: "a link leads back to itself.",
    errno.ENOTDIR: "a part of the path is a file.",
}

# How libraries say it: torch on a GPU, torch on a CPU, the system, C++, oneDNN; and of a thread's stack, Python and Rust.
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory object",
    "can't start new thread",
    "threadpoolbuilderror",
)


class TinyAblateError(Exception):
    """Something that stops a run and that its user can understand."""

    exit_code = 1


class UserError(TinyAblateError):
    """The input is wrong; nothing was computed and nothing was written."""

    exit_code = 2


class ConfigError(UserError):
    """A config value is wrong, alone or beside another."""


class DataError(UserError):
    """A corpus, or a row of one, cannot be used."""


class ModelError(UserError):
    """A model cannot be found, fetched or read."""


class DeviceError(UserError):
    """The device that was asked for is not there, or is known to be wrong."""


class MissingExtraError(UserError):
    """An optional dependency is needed and not installed."""


class ResultsError(UserError):
    """A results directory or file is missing, damaged or of another run."""


class BusyError(ResultsError):
    """Another process is writing in the directory."""


class NumericsError(TinyAblateError):
    """The model gave NaN or infinity; the message names the site."""


class GuardError(TinyAblateError):
    """A check that protects the numbers failed; they must not be used."""


class Interrupted(TinyAblateError):
    """The run was stopped from outside; what was finished is kept."""

    exit_code = 130


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """` (did you mean X?)`, which stands right after an unknown word, before any list; empty where no known word is like it."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def said_by_system(error: OSError) -> str:
    """What the system said about a file, and what to do about it."""
    said = os.strerror(error.errno).lower() if error.errno else (str(error) or "unknown").splitlines()[0]
    return f"{said}; {(_ADVICE | _PATHS).get(error.errno or 0, 'check the path and the disk.')}"


def disk_trouble(error: BaseException) -> str | None:
    """What the system said where a file could not be written, and what to do about it; None for any other error.

    Libraries written in other languages hand the system's number over as text, or not at all.
    """
    if isinstance(error, OSError) and error.errno in _ADVICE:
        return said_by_system(error)
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        number = int(found[1])
        return said_by_system(OSError(number, "")) if number in _ADVICE else None
    if "PytorchStreamWriter failed" in str(error):
        return f"the file could not be written to its end; {_ADVICE[errno.ENOSPC]}"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy or torch means that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return any(words in text for words in _NO_MEMORY)


def user_message(error: BaseException) -> TinyAblateError | None:
    """What an error of the system means for people; None where it means nothing to them."""
    if isinstance(error, TinyAblateError):
        return error
    if is_out_of_memory(error):
        return TinyAblateError(
            "memory ran out. What was finished is kept: run the same command in the same directory to go on, with a smaller "
            "device.batch_tokens, a smaller model, hydra.launcher.n_jobs=1 in a sweep, or more memory"
        )
    if said := disk_trouble(error):
        where = f" {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return ResultsError(f"Cannot write{where}: {said}")
    if isinstance(error, OSError) and error.errno in _PATHS:
        return ResultsError(f"Cannot use {error.filename}: {said_by_system(error)}")
    return None


def said(error: BaseException) -> str:
    """What a library's error says, in one line of bounded length, to be put into a message of ours."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'...' if len(text) > 300 else ''}" if text else type(error).__name__


@contextlib.contextmanager
def panics_told() -> Iterator[None]:
    """A panic in a library written in Rust as an error like any other; its class can only be known by its name."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(f"{error}") from error
