"""What stands in a directory before a run or sweep writes there: nothing, its own files, another run, or a user's files.

Files of two runs in one directory would be taken for one run's, and a finished run is worth hours; so another run's directory
is refused, or emptied of that run where this was asked for. Files that no ledger names are the user's, and nobody's to replace.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tiny_ablation.config.identity import Identity, differences
from tiny_ablation.errors import ResultsError, said_by_system
from tiny_ablation.store.ledger import Ledger, keeping, read_ledger, sha256_file
from tiny_ablation.store.manifest import Manifest, entries, read_manifest
from tiny_ablation.store.partial import another_owner
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.sweepdir import SweepDir, is_sweep
from tiny_ablation.store.untrusted import refuse_links

_LOCKS = (".lock", ".lock-holder", ".lock-building")  # whoever takes a lock looks at what is there
_WRITTEN = re.compile(
    r"(metrics|artifacts|sae)/|(config\.yaml|provenance\.json|env\.txt|report\.html|sweep\.json|multirun\.yaml)$"
)
_TOLD = 3  # files that a message names


def refuse_sweep(path: Path) -> None:
    """Make sure that the directory is no sweep's; before its lock is taken, since a sweep's runs have locks of their own."""
    if is_sweep(path):
        raise ResultsError(f"{path} holds a sweep. Choose another directory with hydra.run.dir=DIR.")


def refuse_foreign(path: Path, key: str = "hydra.run.dir") -> None:
    """Make sure that a directory is new, empty, or a run's or sweep's own; call it before anybody writes there, Hydra included.

    Raises:
        ResultsError: it holds files of somebody else, a link leads out of it, or it cannot be a directory.
    """
    try:
        if not _is_there(path):
            return
        ledger = read_ledger(path)
        if ledger is not None:
            refuse_links(path)
        found = [each.relative_to(path).as_posix() for each in islice(_foreign(path, ledger), _TOLD + 1)]
    except (OSError, ValueError) as error:
        said = said_by_system(error) if isinstance(error, OSError) else error
        raise ResultsError(f"{key}={path} cannot be used: {said}") from error
    if found and ledger is None and read_ledger(path):  # another worker of the run has begun it meanwhile
        refuse_foreign(path, key)
    elif found:
        listed = ", ".join(found[:_TOLD]) + (", ..." if len(found) > _TOLD else "")
        raise ResultsError(
            f"{path} holds files that are not on record as written by tiny-ablate ({listed}), and a run has its directory to "
            f"itself; choose a new or empty one with {key}=DIR, or move these files elsewhere"
        )


def _is_there(path: Path) -> bool:
    """Whether a directory is there."""
    with contextlib.suppress(FileNotFoundError):
        path.lstat()
        if path.is_dir():
            return True
    nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
    return False


def _foreign(path: Path, ledger: Ledger | None) -> Iterator[Path]:
    """Files and links that are in the way: all but locks; in a directory of our own, those in the places of our own."""
    if ledger is not None:
        run, sweep = RunDir(path), SweepDir(path)
        places = {run.manifest, run.machine, run.config, run.provenance, run.env, run.summary, run.per_example, run.verify}
        places |= {run.profile, run.report, run.log, sweep.plan, sweep.summary}
        yield from (p for p in sorted(places) if os.path.lexists(p) and ledger.name(p) not in ledger.written)
        return
    for directory, names, files in os.walk(path, onerror=_raise):
        here = Path(directory)
        yield from (here / name for name in sorted(names) if (here / name).is_symlink())
        yield from (here / name for name in sorted(files) if here != path or name not in _LOCKS)


def _raise(error: OSError) -> None:
    raise error


class Occupant(NamedTuple):
    """A run that something in a directory belongs to."""

    what: str  # what is there of it, in words
    digest: str  # of the run
    covers: Mapping[str, Any]  # what the digest was made of


def occupants(rundir: RunDir, digest: str) -> Iterator[Occupant]:
    """The runs other than `digest` that have results, or finished batches of a run that was killed, in a directory."""
    there = _manifest(rundir)
    if there and there.digest not in ("", digest):  # a job that failed before it was a run has no digest
        yield Occupant(f"another run ({there.run_id})", there.digest, there.covers)
    if owner := another_owner(rundir.batches, digest):
        what = f"{owner.batches} finished batches of another run ({owner.digest[:16]}), which was stopped"
        yield Occupant(what, owner.digest, owner.covers)


def ensure_vacant(rundir: RunDir, run: Identity, *, replace: bool) -> None:
    """Make sure that nothing of another run's is in the directory; hold its lock."""
    for other in occupants(rundir, run.digest):
        if not replace:
            found = differences(other.covers, run.covers)
            listed = f" ({'; '.join([*found[:5], *(['...'] if len(found) > 5 else [])])})" if found else ""
            raise ResultsError(
                f"{rundir.path} holds {other.what}{listed}. Go on with that one by the command that began it, choose another "
                "directory with hydra.run.dir=DIR, or say resume=false to replace it."
            )
        empty(rundir)


def empty(rundir: RunDir) -> None:
    """Delete what a run or sweep wrote in its directory, and no other file; the manifest last, so that a kill leaves it.

    Raises:
        ResultsError: its ledger does not name all that its manifest lists, as where an earlier version wrote it.
    """
    if not rundir.path.is_dir():
        return
    there = _manifest(rundir)
    with keeping(rundir.path) as ledger:
        if there and (lacking := sorted({*there.files, *there.machine_files} - ledger.written.keys())):
            raise ResultsError(
                f"{rundir.path} holds a run ({there.run_id}) that is not replaced, since the record of its files lacks "
                f"{lacking[0]}. Choose another directory with hydra.run.dir=DIR."
            )
        for name in sorted(ledger.written, key=lambda name: (name == rundir.manifest.name, name)):
            ledger.delete(rundir.path / name)
    for place in sorted(rundir.batches.glob("**"), reverse=True):
        if not any(place.iterdir()):
            place.rmdir()


@contextlib.contextmanager
def reopened(path: Path) -> Iterator[None]:
    """Write in the directory of a finished run or sweep, whose manifest tells what is its own where a ledger is lacking.

    Directories of earlier versions have no ledger, and what they list may be the user's; so nothing of that is ever deleted.
    """
    refuse_links(path)
    rundir, listed = RunDir(path), {}
    with contextlib.suppress(ResultsError):  # all of it or nothing
        own = {each.name: sha256_file(each) for each in (rundir.manifest, rundir.machine) if each.is_file()}
        listed = own | {name: entry.sha256 for name, entry in entries(rundir).items() if _WRITTEN.match(name)}
    with keeping(path) as ledger:
        for name, sha256 in listed.items():
            ledger.written.setdefault(name, set()).add(sha256)
        yield


def _manifest(rundir: RunDir) -> Manifest | None:
    """The manifest that is there; a damaged one says nothing, and running again is how it is mended."""
    with contextlib.suppress(ResultsError):
        return read_manifest(rundir.path)
    return None
