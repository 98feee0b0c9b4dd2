"""Which process works on which part of a run that several work through together: a file for each part that is taken.

A claim is created exclusively, which one of many processes on one file system can do, shared file systems included, and touched
again and again while its process lives. A claim of a process that has ended, or that was not touched for long, is void: another
process claims the part under the next number. So nothing is renamed and nobody's claim is removed by others. Claims only save
double work: what two processes compute of one part is equal, and each file of it is written whole.
"""

import contextlib
import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_ablation.errors import ResultsError, said_by_system
from tiny_ablation.store.files import delete
from tiny_ablation.store.ledger import ledger_of

_BEATS = 6  # touches within the time after which a claim is void
_BEING_WRITTEN = 60.0  # seconds that a claim may be empty
_NAME = re.compile(r"(?P<part>[a-z]+(_\d+)?)\.(?P<number>\d+)")


@dataclass(frozen=True)
class Claims:
    """The claims in `directory`, for processes that keep the ledger of the run's directory."""

    directory: Path  # where the files are; made with the first
    layout: str  # how the work is cut into parts, in which all processes must agree
    dead_after: float  # seconds without a touch after which a claim is void

    @contextlib.contextmanager
    def holding(self, part: str) -> Iterator[bool]:
        """Within: the part is this process's; False where another one works on it.

        Raises:
            ResultsError: another process has cut the work into other parts, or nothing can be written.
        """
        last = max((number for name, number in _claims(self.directory) if name == part), default=-1)
        claimed = living(self.directory / f"{part}.{last}") if last >= 0 else None
        if claimed and claimed.get("layout", self.layout) != self.layout:
            raise ResultsError(
                f"another process works in {self.directory.parent.parent} that has cut this run into other batches. Start "
                "all of them with the same run.shards and device settings, on machines of one kind."
            )
        path = self.directory / f"{part}.{last + 1}"
        if claimed is not None or not self._create(path):
            yield False
            return
        with _touching(path, self.dead_after / _BEATS):
            try:
                yield True
            finally:
                delete(path)

    def _create(self, path: Path) -> bool:
        import psutil

        me = psutil.Process()
        said = {
            "host": _host(),
            "pid": me.pid,
            "started": me.create_time(),
            "layout": self.layout,
            "dead_after": self.dead_after,
        }
        data = json.dumps(said).encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if ledger := ledger_of(path):
                ledger.note(path, hashlib.sha256(data).hexdigest())
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        except OSError as error:
            raise ResultsError(f"Cannot write {path}: {said_by_system(error)}") from error
        return True


def somebody_works(directory: Path) -> bool:
    """Whether a living process has a claim in the directory."""
    return any(living(directory / f"{part}.{number}") is not None for part, number in _claims(directory))


def clear_claims(directory: Path) -> None:
    """Delete all claims: the run is finished, or replaced."""
    for part, number in _claims(directory):
        delete(directory / f"{part}.{number}")


def living(path: Path) -> Mapping[str, Any] | None:
    """What a claim says; None where it is gone or void. One that is just being written says nothing yet."""
    try:
        with path.open("rb") as file:  # opening a file asks a file server for its state; looking at its name may not
            text, touched = file.read(), os.fstat(file.fileno()).st_mtime
        said = json.loads(text) if text else {}
        if said.get("host") == _host() and not _runs(said["pid"], said["started"]):
            return None
        with contextlib.suppress(OSError):  # a directory that may be read only
            os.utime(path.parent)
        now = path.parent.stat().st_mtime  # by the clock that dates the files, which may be a file server's
        return said if now - touched < said.get("dead_after", _BEING_WRITTEN) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ResultsError(f"{path} cannot be read ({error}); delete it, and run again") from error


def _claims(directory: Path) -> list[tuple[str, int]]:
    """The part and the number of each claim."""
    found = (_NAME.fullmatch(path.name) for path in directory.glob("*.*"))
    return sorted((match["part"], int(match["number"])) for match in found if match)


def _host() -> str:
    """The machine, and where there are containers, whose process numbers."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _runs(pid: int, started: float) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < 1
    except psutil.Error:
        return False


@contextlib.contextmanager
def _touching(path: Path, every: float) -> Iterator[None]:
    """Within: the file is touched from a thread, also while the process computes."""
    done = threading.Event()

    def touch() -> None:
        while not done.wait(every):
            with contextlib.suppress(OSError):  # it was cleared, as the run is finished
                os.utime(path)

    thread = threading.Thread(target=touch, name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
