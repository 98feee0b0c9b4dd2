"""What stands in a directory before a run writes there: nothing, the same run, another one, or a sweep.

Files of two runs in one directory would be taken for one run's, and a finished run is worth hours; so another run's directory
is refused, or emptied of that run where this was asked for.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tiny_ablation.config.identity import Identity, differences
from tiny_ablation.errors import ResultsError
from tiny_ablation.store.manifest import Manifest, read_manifest
from tiny_ablation.store.partial import another_owner, clear_batches
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.sweepdir import is_sweep


def refuse_sweep(path: Path) -> None:
    """Make sure that the directory is no sweep's; before its lock is taken, since a sweep's runs have locks of their own.

    Raises:
        ResultsError: it is.
    """
    if is_sweep(path):
        raise ResultsError(f"{path} holds a sweep. Choose another directory with hydra.run.dir=DIR.")


class Occupant(NamedTuple):
    """A run that something in a directory belongs to.

    Attributes:
        what: what is there of it, in words.
        digest: of the run.
        covers: what the digest was made of.
    """

    what: str
    digest: str
    covers: Mapping[str, Any]


def occupants(rundir: RunDir, digest: str) -> Iterator[Occupant]:
    """The runs other than `digest` that have results, or finished batches of a run that was killed, in a directory."""
    there = _manifest(rundir)
    if there and there.digest not in ("", digest):  # a job that failed before it was a run has no digest
        yield Occupant(f"another run ({there.run_id})", there.digest, there.covers)
    if owner := another_owner(rundir.batches, digest):
        what = f"{owner.batches} finished batches of another run ({owner.digest[:16]}), which was stopped"
        yield Occupant(what, owner.digest, owner.covers)


def ensure_vacant(rundir: RunDir, run: Identity, *, replace: bool) -> None:
    """Make sure that nothing of another run's is in the directory; hold its lock.

    Args:
        rundir: where the run will be written.
        run: what it is.
        replace: delete another run's files instead of refusing.

    Raises:
        ResultsError: the directory is another run's.
    """
    for other in occupants(rundir, run.digest):
        if not replace:
            raise ResultsError(
                f"{rundir.path} holds {other.what}{_told(differences(other.covers, run.covers))}. Go on with that one by the "
                "command that began it, choose another directory with hydra.run.dir=DIR, or say resume=false to replace it."
            )
        empty(rundir)


def empty(rundir: RunDir) -> None:
    """Delete what a run left in its directory: the files that its manifest lists, and its finished batches."""
    if there := _manifest(rundir):
        for name in (rundir.manifest.name, rundir.machine.name, *there.files, *there.machine_files):
            (rundir.path / name).unlink(missing_ok=True)
    clear_batches(rundir.batches)


def _told(found: list[str], most: int = 5) -> str:
    return f" ({'; '.join([*found[:most], *(['...'] if len(found) > most else [])])})" if found else ""


def _manifest(rundir: RunDir) -> Manifest | None:
    """The manifest that is there; a damaged one says nothing, and running again is how it is mended."""
    with contextlib.suppress(ResultsError):
        return read_manifest(rundir.path)
    return None
