"""A sweep's directory: the plan of its cells, which is written before the first of them runs.

`sweep.json` says what was planned; what became of a cell stands in the cell's own manifest. So a sweep that was killed at any
moment can be read, continued and aggregated from its files.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tiny_ablation.config.identity import differences
from tiny_ablation.errors import ResultsError, said_by_system
from tiny_ablation.paths import inside
from tiny_ablation.store.checksummed_json import read_versioned, write_sealed
from tiny_ablation.store.files import TEMP_PREFIX, clean_stale
from tiny_ablation.store.ledger import keeping
from tiny_ablation.store.locks import lock_file
from tiny_ablation.store.rundir import Place, RunDir
from tiny_ablation.store.schema import SCHEMA_VERSION
from tiny_ablation.store.untrusted import refuse_links

UNLIKE = (
    "it is not the run that this sweep plans here ({}), so it is in no matrix; delete its directory and run the sweep's "
    "command again to compute it"
)
_NO_SWEEP = "{} is no sweep: it has no sweep.json. Give the directory that -m made."


@dataclass(frozen=True)
class Cell:
    """One planned run: a condition and a seed."""

    job: int  # its number in the sweep, from 0
    dir: str  # its directory, relative to the sweep's
    condition: str  # its label in tables
    seed: int
    overrides: tuple[str, ...]  # what the command line said for it
    digest: str = ""  # what identifies its run; empty where the model could not be had when the sweep was planned
    # what its run is made of beside its config: hashes of the data and the weights, versions, ...; without what
    # `SweepPlan.content` says for all
    content: Mapping[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()  # the sites that the screenings of other cells chose, which this one measures too


@dataclass(frozen=True)
class SweepPlan:
    """The content of `sweep.json`."""

    plan_digest: str  # what identifies the plan: a directory belongs to one plan
    varies: tuple[str, ...]  # the config keys that differ between cells
    cells: tuple[Cell, ...]  # in the order of their jobs
    settings: Mapping[str, Any] = field(default_factory=dict)  # the resolved config group `sweep`
    models: tuple[str, ...] = ()  # the options of the group `model` that occur, for `dataset.common_rows=true`
    # facts of the sweep that are none of a cell, such as its command line
    notes: Mapping[str, Any] = field(default_factory=dict)
    # what all its runs are made of: the versions of this package, of its results and of libraries. Empty in a plan that was
    # written before plans said so.
    content: Mapping[str, Any] = field(default_factory=dict)

    def unlike(self, cell: Cell, digest: str, covers: Mapping[str, Any]) -> list[str]:
        """What tells a run in the place of a cell from the run that is planned there, in words; empty where it is that run."""
        if digest in ("", cell.digest):
            return []
        found = differences(covers, {**self.content, **cell.content})
        return found or (["another config"] if cell.digest else [])

    @property
    def conditions(self) -> list[str]:
        """The labels, in the order in which they were planned."""
        return list(dict.fromkeys(cell.condition for cell in self.cells))


@dataclass(frozen=True)
class SweepDir:
    """The names of what stands in a sweep's directory; makes nothing."""

    path: Path
    plan = Place("sweep.json")
    manifest = Place("manifest.json")  # what the sweep is, and the checksum of every file of its own
    screens = Place("screens.json")  # what the screening of each cell chose
    cross = Place("artifacts/cross_condition")  # matrices, summary, invariants and hypotheses
    summary = Place("artifacts/cross_condition/summary.json")  # metrics over seeds, and which cells are finished
    report = Place("report.html")  # the sweep on one page

    def run(self, cell: Cell) -> RunDir:
        """The directory of a cell's run."""
        return RunDir(self.path / cell.dir)

    def confirm(self, cell: Cell) -> Path:
        """The directory of the run that ablates the conserved set on a cell's condition."""
        return self.path / "confirm" / cell.dir


CellStatus = Literal["ok", "failed", "partial", "running", "missing", "duplicate"]


@dataclass(frozen=True)
class CellState:
    """What became of one planned cell."""

    cell: Cell  # what was planned
    # `ok`: it has results; `failed`: it ended with an error, or its files are damaged; `running`: a process is at work;
    # `partial`: it was stopped, and a rerun continues it; `missing`: it was not started, or was killed before its first
    # results; `duplicate`: another cell has the same results
    state: CellStatus
    error: str | None = None  # why it has no results that are used, or which stages behind its measurement failed
    run_id: str | None = None  # of its run, where that is known
    digest: str | None = None  # of its run, where that is known

    def told(self) -> dict[str, Any]:
        """What sub-commands print about it with `--json`."""
        cell = self.cell
        return {"condition": cell.condition, "seed": cell.seed, "dir": cell.dir, "state": self.state, "error": self.error}


def finished(plan: SweepPlan, summary: Mapping[str, Any]) -> Iterator[Cell]:
    """The cells whose results are used, by the content of the sweep's `summary.json`, in the order of the plan."""
    jobs = {cell["job"] for cell in summary["cells"] if cell["status"] == "ok"}
    return (cell for cell in plan.cells if cell.job in jobs)


def is_sweep(path: Path) -> bool:
    """Whether a directory is a sweep's."""
    return SweepDir(path).plan.is_file()


@contextlib.contextmanager
def building(path: Path) -> Iterator[None]:
    """Be the one process that writes a sweep's own results, and clear what a killed one left; others wait their turn.

    A sweep may be aggregated while its runs are at work, so this is not the lock of the sweep.

    Raises:
        ResultsError: it is no sweep, or cannot be written.
    """
    if not is_sweep(path):
        raise ResultsError(_NO_SWEEP.format(path))
    refuse_links(path)
    try:
        with lock_file(path / ".lock-building"), keeping(path) as ledger:
            clean_stale(path / "artifacts", ledger.token)
            for left in path.glob(f"{TEMP_PREFIX}{ledger.token}*"):
                left.unlink(missing_ok=True)
            yield
    except OSError as error:
        raise ResultsError(f"Cannot write in {path}: {said_by_system(error)}") from error


def write_plan(path: Path, plan: SweepPlan) -> Path:
    """Write `sweep.json` into the directory `path`."""
    return write_sealed(SweepDir(path).plan, {"schema_version": SCHEMA_VERSION, **asdict(plan)})


def read_plan(path: Path) -> SweepPlan:
    """The plan of the sweep in the directory `path`.

    Raises:
        ResultsError: it is no sweep, or its plan is damaged, from a newer version, or leads out of the directory.
    """
    file = SweepDir(path).plan
    if not file.is_file():
        raise ResultsError(_NO_SWEEP.format(path))
    advice = "Delete it and start the sweep again in this directory with the command that began it; finished cells are kept."
    try:
        content = read_versioned(file, advice)
        return SweepPlan(
            plan_digest=str(content["plan_digest"]),
            varies=tuple(map(str, content["varies"])),
            cells=tuple(_cell(each) for each in content["cells"]),
            settings=dict(content["settings"]),
            models=tuple(map(str, content["models"])),
            notes=dict(content["notes"]),
            content=dict(content.get("content", {})),  # earlier versions wrote none
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultsError(f"{file} is damaged ({type(error).__name__}: {error}). {advice}") from error


def _cell(content: Mapping[str, Any]) -> Cell:
    return Cell(
        job=int(content["job"]),
        dir=inside(str(content["dir"])),
        condition=str(content["condition"]),
        seed=int(content["seed"]),
        overrides=_texts(content["overrides"]),
        digest=str(content.get("digest", "")),
        content=dict(content.get("content", {})),
        also=_texts(content.get("also", ())),
    )


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError("a list of texts is one text")
    return tuple(map(str, values))
