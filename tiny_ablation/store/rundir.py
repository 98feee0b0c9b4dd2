"""The names of what stands in a run directory, and the lock that keeps two processes out of one."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_ablation.config.identity import Identity
from tiny_ablation.errors import BusyError, ResultsError, said_by_system
from tiny_ablation.store.files import clean_stale
from tiny_ablation.store.ledger import keeping, read_ledger
from tiny_ablation.store.locks import lock_file
from tiny_ablation.store.partial import CLAIMS, PartialStore
from tiny_ablation.store.schema import TABLES
from tiny_ablation.store.untrusted import refuse_links


class Place:
    """A file or directory of a run's or sweep's directory: an attribute that is the path there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, owner: Any, _: type | None = None) -> Path:
        return owner.path / self._name


@dataclass(frozen=True)
class RunDir:
    """One run's directory, which need not exist yet; knows names, makes nothing."""

    path: Path
    manifest = Place("manifest.json")  # what the run is, and the checksum of every file that defines it
    machine = Place("machine.json")  # the checksums of the files that hold times and machine facts
    log = Place("run.log")  # what the run did and when; see `store.runlog`
    config = Place("config.yaml")  # the resolved config
    provenance = Place("provenance.json")  # hashes, code, versions, machine, times
    env = Place("env.txt")  # every installed package and its version
    metrics = Place("metrics")  # tables and summaries
    summary = Place("metrics/summary.json")  # baselines, mean effects with their intervals, top sites
    per_example = Place("metrics/per_example.parquet")  # a row per site and example, from which all statistics are computed
    verify = Place("metrics/verify.json")  # what the verify slice found
    profile = Place("metrics/profile.json")  # time and memory per stage
    artifacts = Place("artifacts")  # figures
    report = Place("report.html")  # the run on one page
    batches = Place("partial")  # what is finished of a run that is under way
    claims = Place(f"partial/{CLAIMS}")  # which worker is at work on what, of a run that several processes work through

    def table(self, name: str) -> Path:
        """The file of one impact table, a key of `TABLES`."""
        return self.metrics / f"{TABLES[name].name}.parquet"

    def partial(self, run: Identity, layout: str, part: str = "") -> PartialStore:
        """The finished batches of a run that is under way; `part` names a measurement after the main one, such as `confirm`."""
        return PartialStore(self.batches / part, run, layout)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one process that writes here; makes the directory and clears what a killed writer of its own left.

        What is written meanwhile through `store.files` stands in the directory's ledger. The system drops the lock when a
        process dies, so a crash never leaves a directory locked.

        Raises:
            BusyError: another process holds the lock.
            ResultsError: the directory cannot be written, or a link leads out of it.
        """
        from filelock import Timeout

        refuse_links(self.path)
        lock, holder = lock_file(self.path / ".lock", timeout=0), self.path / ".lock-holder"
        try:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                lock.acquire()
            except Timeout:
                pid = "unknown"
                with contextlib.suppress(OSError):
                    pid = holder.read_text()[:20].strip() or pid
                raise BusyError(
                    f"Another process (pid {pid}) is writing in {self.path}. Wait for it, stop it, or choose another directory "
                    "with hydra.run.dir=DIR."
                ) from None
            except OSError as error:
                raise ResultsError(f"Cannot write in {self.path}: {said_by_system(error)}") from error
            left = read_ledger(self.path)
            if left and not any(self.claims.glob("*")):  # workers of this run have such files too
                clean_stale(self.path, left.token)  # first, since it may be what makes room on a full disk
            with keeping(self.path), _held_by_us(holder):
                yield
        finally:
            lock.release()


@contextlib.contextmanager
def _held_by_us(holder: Path) -> Iterator[None]:
    """The number of this process stands in `holder`, for the message that another one gets."""
    try:
        if holder.exists() and not holder.read_bytes()[:20].isdigit():
            raise ResultsError(f"{holder} was not written by tiny-ablate; move it elsewhere")
        holder.write_text(str(os.getpid()))
    except OSError as error:
        raise ResultsError(f"Cannot write in {holder.parent}: {said_by_system(error)}") from error
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)


def remove_if_empty(directory: Path, stop: Path) -> None:
    """Remove a directory in which nothing was written, and those above it that are empty then, below `stop`."""
    with contextlib.suppress(OSError):
        for place in (directory, *directory.parents):
            if place == stop or stop not in place.parents:
                break
            place.rmdir()
