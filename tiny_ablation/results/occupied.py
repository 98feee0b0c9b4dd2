"""What stands in a directory before a run writes there: nothing, the same run, another one, or a sweep.

Files of two runs in one directory would be taken for one run's, and a finished run is worth hours; so another run's directory
is refused, or emptied of that run where this was asked for.
"""

import contextlib
from pathlib import Path

from tiny_ablation.errors import ResultsError
from tiny_ablation.results.manifest import Manifest, read_manifest
from tiny_ablation.results.rundir import RunDir
from tiny_ablation.results.sweepdir import is_sweep


def refuse_sweep(path: Path) -> None:
    """Make sure that the directory is no sweep's; before its lock is taken, since a sweep's runs have locks of their own.

    Raises:
        ResultsError: it is.
    """
    if is_sweep(path):
        raise ResultsError(f"{path} holds a sweep. Choose another directory with hydra.run.dir=DIR.")


def make_way(rundir: RunDir, digest: str, *, replace: bool) -> None:
    """Make sure that no other run's files are in the directory; hold its lock.

    Args:
        rundir: where the run will be written.
        digest: what identifies it.
        replace: delete another run's files instead of refusing.

    Raises:
        ResultsError: the directory is another run's.
    """
    there = _manifest(rundir)
    if there is None or there.digest in ("", digest):  # a job that failed before it was a run has no digest
        return
    if not replace:
        raise ResultsError(
            f"{rundir.path} holds another run ({there.run_id}). Choose another directory with hydra.run.dir=DIR, or say "
            "resume=false to replace that run."
        )
    for name in (rundir.manifest.name, rundir.machine.name, *there.files, *there.machine_files):
        (rundir.path / name).unlink(missing_ok=True)


def _manifest(rundir: RunDir) -> Manifest | None:
    """The manifest that is there; a damaged one says nothing, and running again is how it is mended."""
    with contextlib.suppress(ResultsError):
        return read_manifest(rundir.path)
    return None
