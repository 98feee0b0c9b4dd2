"""The names of what stands in a run directory, and the lock that keeps two processes out of one."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tiny_ablation.config.identity import Identity
from tiny_ablation.errors import BusyError, ResultsError, said_by_system
from tiny_ablation.store.files import clean_stale
from tiny_ablation.store.ledger import keeping, read_ledger
from tiny_ablation.store.locks import lock_file
from tiny_ablation.store.partial import CLAIMS, PartialStore
from tiny_ablation.store.schema import TABLES
from tiny_ablation.store.untrusted import refuse_links


@dataclass(frozen=True)
class RunDir:
    """One run's directory; knows names, makes nothing.

    Args:
        path: the directory, which need not exist yet.
    """

    path: Path

    @property
    def manifest(self) -> Path:
        """What the run is, and the checksum of every file that defines it."""
        return self.path / "manifest.json"

    @property
    def machine(self) -> Path:
        """The checksums of the files that hold times and machine facts."""
        return self.path / "machine.json"

    @property
    def log(self) -> Path:
        """What the run did and when; see `results.runlog`."""
        return self.path / "run.log"

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def provenance(self) -> Path:
        """Where the numbers come from: hashes, code, versions, machine, times."""
        return self.path / "provenance.json"

    @property
    def env(self) -> Path:
        """Every installed package and its version."""
        return self.path / "env.txt"

    @property
    def metrics(self) -> Path:
        """The directory of tables and summaries."""
        return self.path / "metrics"

    @property
    def summary(self) -> Path:
        """Baselines, mean effects with their intervals, top sites."""
        return self.metrics / "summary.json"

    @property
    def per_example(self) -> Path:
        """A row per site and example; what all statistics are computed from."""
        return self.metrics / "per_example.parquet"

    @property
    def verify(self) -> Path:
        """What the verify slice found."""
        return self.metrics / "verify.json"

    @property
    def profile(self) -> Path:
        """Time and memory per stage."""
        return self.metrics / "profile.json"

    @property
    def artifacts(self) -> Path:
        """The directory of figures."""
        return self.path / "artifacts"

    @property
    def report(self) -> Path:
        """The run on one page."""
        return self.path / "report.html"

    def table(self, name: str) -> Path:
        """The file of one impact table, a key of `TABLES`."""
        return self.metrics / f"{TABLES[name].name}.parquet"

    @property
    def batches(self) -> Path:
        """The directory of what is finished of a run that is under way."""
        return self.path / "partial"

    @property
    def claims(self) -> Path:
        """The directory that says which worker is at work on what, of a run that several processes work through."""
        return self.batches / CLAIMS

    def partial(self, run: Identity, layout: str, part: str = "") -> PartialStore:
        """The finished batches of a run that is under way; see `PartialStore`.

        Args:
            run: what the batches belong to.
            layout: how its examples are put into batches.
            part: a measurement that follows the main one, such as `confirm`; empty for the main one.
        """
        return PartialStore(self.batches / part, run, layout)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one process that writes here; makes the directory and clears what a killed writer of its own left.

        What is written meanwhile through `results.store` stands in the directory's ledger. The system drops the lock when a
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
                raise BusyError(_locked(self.path, holder)) from None
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


def _locked(path: Path, holder: Path) -> str:
    pid = "unknown"
    with contextlib.suppress(OSError):
        pid = holder.read_text()[:20].strip() or pid
    return (
        f"Another process (pid {pid}) is writing in {path}. "
        "Wait for it, stop it, or choose another directory with hydra.run.dir=DIR."
    )


def remove_if_empty(directory: Path, stop: Path) -> None:
    """Remove a directory in which nothing was written, and those above it that are empty then.

    Args:
        directory: made for a run or sweep, before it was known whether it can begin.
        stop: a directory above, which stays.
    """
    with contextlib.suppress(OSError):
        for place in (directory, *directory.parents):
            if place == stop or stop not in place.parents:
                break
            place.rmdir()
