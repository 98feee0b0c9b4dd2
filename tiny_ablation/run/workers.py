"""One run worked through by several processes: each takes batches that nobody is at work on, and one ends the run."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tiny_ablation.errors import ResultsError
from tiny_ablation.run.measure import Progress, batches_of, compute, store_of
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.store.claims import Claims
from tiny_ablation.store.manifest import read_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.runlog import log

if TYPE_CHECKING:
    from tiny_ablation.engine.executor import Executor

_LOOK = 0.5  # seconds between two looks at what others finished


@contextmanager
def working(prepared: PreparedRun, rundir: RunDir, work: "Sequence[Executor]", tick: Progress) -> Iterator[bool]:
    """Help to measure all batches. Within: they are finished, and this worker ends the run; False where another does or did.

    This process keeps the ledger of the directory, `work` is `executors(prepared)`, and `tick` is called with the number of
    interventions x examples that this worker finished.

    A worker stays until no batch is left, since it takes up what one that was killed left behind.

    Raises:
        ResultsError: another worker has cut the run into other batches.
    """
    store, batches = store_of(prepared, rundir, work), batches_of(work)
    claims = Claims(rundir.claims, store.layout, prepared.spec.settings.root.run.dead_after)
    store.done()  # drops what is damaged or was cut in another way
    taken = 0
    while (left := [i for i in range(len(batches)) if not store.has(i)]) and not _is_finished(rundir, prepared):
        for number in left:
            with claims.holding(f"batch_{number}") as mine:
                if mine and not store.has(number):  # its worker may have finished it meanwhile
                    store.save(number, compute(*batches[number], tick))
                    taken += 1
                    break
        else:
            time.sleep(_LOOK)
    log.info("%d of %d batches were measured by this worker", taken, len(batches))
    with claims.holding("end") as mine:
        yield mine and not _is_finished(rundir, prepared)


def _is_finished(rundir: RunDir, prepared: PreparedRun) -> bool:
    """Whether the run is: its batches are deleted then."""
    try:
        manifest = read_manifest(rundir.path)
    except ResultsError:  # there is none, or one that is damaged and is written anew
        return False
    return manifest.digest == prepared.identity.digest and manifest.status == "ok" and not manifest.undone
