"""The runs of a sweep, each checked against its manifest, and what became of those that cannot be used."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import pandas as pd
import pyarrow as pa

from tiny_ablation.config.identity import CODE
from tiny_ablation.errors import TinyAblateError
from tiny_ablation.store.files import read_arrow, read_object, read_table
from tiny_ablation.store.manifest import Manifest, check_files, read_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import DTYPES, TABLES
from tiny_ablation.store.sweepdir import Cell, CellState, SweepDir, SweepPlan
from tiny_ablation.store.untrusted import reading
from tiny_ablation.sweep.state import cell_state

_GROUPS = "metrics/groups.parquet"  # what each group of examples says of the whole run
_SCREENED = "metrics/attribution.parquet"  # every site's estimate, and which were chosen for it
# Why a cell has no results, where its manifest does not say it.
_WHY = {
    "missing": "it was not started, or was killed before its first results",
    "partial": "it was stopped before it was finished",
    "failed": "its manifest gives no reason",
}


@dataclass(frozen=True)
class FinishedRun:
    """One finished run of the sweep."""

    cell: Cell  # what was planned
    dir: RunDir  # its directory
    table: str  # which impact table it wrote, a key of `TABLES`
    impact: pa.Table  # that table, with the plan's label as `condition`; texts are dictionary-encoded
    summary: Mapping[str, Any]  # the content of its `summary.json`
    # where sites were screened, those that it measured for its own or another run's estimates; the others that it measured were
    # drawn at random, to judge the estimates by. None where it measured every site
    chosen: frozenset[tuple[int | str, ...]] | None = None

    @cached_property
    def groups(self) -> pd.DataFrame | None:
        """Its `groups.parquet`; None where an earlier version wrote the run."""
        path = self.dir.path / _GROUPS
        return read_table(path) if path.is_file() else None

    @property
    def seed_matters(self) -> bool:
        """Whether another seed would be a replicate, rather than the same measurement."""
        return self.summary.get("seed_effect") != "none"


def confidence(runs: Sequence[FinishedRun]) -> float:
    """The level of the intervals of a sweep: that of its runs, which a plan lets have one only."""
    return next((float(run.summary["confidence"]) for run in runs if "confidence" in run.summary), 0.95)


def collect(sweep: SweepDir, plan: SweepPlan) -> tuple[list[CellState], list[FinishedRun]]:
    """What became of every planned cell, and the usable runs; both in the order of the plan."""
    states, children = [], []
    for cell in plan.cells if not plan.content else ():
        # A plan of an earlier version, which did not say what its runs are made of: they must at least be of one code.
        with suppress(TinyAblateError):
            covers = read_manifest(sweep.run(cell).path).covers
            plan = replace(plan, content={name: covers[name] for name in CODE if name in covers})
            break
    first: dict[str, Cell] = {}
    taken: dict[tuple[str, int], Cell] = {}
    for cell in plan.cells:
        state, child = _cell(sweep, plan, cell, first, taken)
        states.append(state)
        if child:
            children.append(child)
            first[str(state.digest)] = taken[cell.condition, cell.seed] = cell
    return states, children


def _cell(
    sweep: SweepDir, plan: SweepPlan, cell: Cell, first: Mapping[str, Cell], taken: Mapping[tuple[str, int], Cell]
) -> tuple[CellState, FinishedRun | None]:
    state, manifest = cell_state(sweep, plan, cell)
    if manifest is None:
        return replace(state, error=_told(state.error, sweep) if state.error else _WHY[state.state]), None
    if state.state != "ok":
        # A stopped run has no results because it was stopped, whatever failed after that.
        why = manifest.error if state.state == "partial" else state.error
        return replace(state, error=why or _WHY[state.state]), None
    if manifest.digest in first:
        return replace(state, state="duplicate", error=f"the same run as {first[manifest.digest].dir}"), None
    if twin := taken.get((cell.condition, cell.seed)):
        why = f"{twin.dir} has the same condition and seed but is another run; give them labels: condition=NAME"
        return replace(state, state="failed", error=why), None
    try:
        return state, _read(sweep.run(cell), cell, manifest)
    except TinyAblateError as error:
        return replace(state, state="failed", error=_told(str(error), sweep)), None


def _told(error: str, sweep: SweepDir) -> str:
    """The message without the path of the sweep, which must not be part of its results."""
    return error.replace(f"{sweep.path}{os.sep}", "")


def _read(rundir: RunDir, cell: Cell, manifest: Manifest) -> FinishedRun:
    """The run's tables and summary.

    Raises:
        TinyAblateError: a file that is needed is missing, altered or damaged.
    """
    table = next((name for name in TABLES if f"metrics/{name}.parquet" in manifest.files), None)
    if table is None:
        raise TinyAblateError("its manifest lists no impact table. Run it again to make it anew.")
    needed = [path.relative_to(rundir.path).as_posix() for path in (rundir.table(table), rundir.summary, rundir.per_example)]
    needed += [name for name in (_SCREENED, _GROUPS) if name in manifest.files]
    if problems := check_files(rundir, needed):
        raise TinyAblateError(f"{'; '.join(map(str, problems))}. Run it again to make it anew.")
    with reading(rundir.path):
        impact, summary = _impact(rundir, table, cell.condition), read_object(rundir.summary)
        if _SCREENED not in needed:
            return FinishedRun(cell, rundir, table, impact, summary)
        rows = read_table(rundir.path / _SCREENED)
        chosen = rows["in_top"] | rows["also"] if "also" in rows else rows["in_top"]  # earlier versions measured their own
        sites = rows.loc[chosen.to_numpy(), ["layer", "component" if table == "layer_impact" else "unit"]]
        return FinishedRun(cell, rundir, table, impact, summary, frozenset(sites.itertuples(index=False, name=None)))


def _impact(rundir: RunDir, table: str, condition: str) -> pa.Table:
    columns = TABLES[table].columns
    texts = [name for name in columns if name not in DTYPES]
    found = read_arrow(rundir.table(table), dictionaries=texts)
    if missing := [name for name in columns if name not in found.column_names]:
        raise TinyAblateError(f"{rundir.table(table)} has no column {missing[0]!r}. Run it again.")
    label = pa.DictionaryArray.from_arrays(pa.array([0] * len(found), pa.int32()), pa.array([condition]))
    found, schema = found.select(columns).set_column(columns.index("condition"), "condition", label), _schema(columns)
    return found if found.schema.equals(schema) else found.cast(schema)


@cache
def _schema(columns: tuple[str, ...]) -> pa.Schema:
    """One type per column, so that tables of any runs can be put together."""
    text = pa.dictionary(pa.int32(), pa.string())
    kinds = {"int32": pa.int32(), "int64": pa.int64(), "float64": pa.float64()}
    return pa.schema([(name, kinds[DTYPES[name]] if name in DTYPES else text) for name in columns])
