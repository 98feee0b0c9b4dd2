"""From the files of a sweep to its cross-condition results, in one pass."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tiny_ablation.config.schema import SweepConfig
from tiny_ablation.config.sweep import sweep_config
from tiny_ablation.errors import ResultsError
from tiny_ablation.stats.clusters import Intervals
from tiny_ablation.store.files import delete, write_json, write_table
from tiny_ablation.store.reader import load_run
from tiny_ablation.store.schema import TABLES
from tiny_ablation.store.sweepdir import CellState, SweepDir, SweepPlan, read_plan
from tiny_ablation.sweep.analysis import SweepOutcome, write_sweep_manifest
from tiny_ablation.sweep.analysis.children import FinishedRun, collect, confidence
from tiny_ablation.sweep.analysis.confirmed import confirmed
from tiny_ablation.sweep.analysis.declared import check_hypotheses
from tiny_ablation.sweep.analysis.effects import Effects, Profile, effect_grids
from tiny_ablation.sweep.analysis.examples import Examples
from tiny_ablation.sweep.analysis.geometry import geometry
from tiny_ablation.sweep.analysis.hypotheses import judge_hypotheses
from tiny_ablation.sweep.analysis.invariants import find_invariants, ranking_metrics
from tiny_ablation.sweep.analysis.pooled import pooled_intervals
from tiny_ablation.sweep.analysis.robustness import NothingShared, RobustnessTables, sweep_robustness
from tiny_ablation.sweep.analysis.summary import sweep_summary


def aggregate(sweep_dir: Path) -> SweepOutcome:
    """See `aggregate_sweep`."""
    sweep, plan = SweepDir(sweep_dir), read_plan(sweep_dir)
    cfg = sweep_config(plan.settings)
    declared = check_hypotheses(cfg.hypotheses)
    states, children = collect(sweep, plan)
    grids, metrics = effect_grids(children), ranking_metrics(cfg, children)
    examples = [Examples(grid, [*metrics, *(h.metric for h in declared if h.metric)]) for grid in grids]
    robust, notes = _robustness(children)
    outcome = SweepOutcome(sweep_dir, tuple(states), (*_warnings(plan, states, children), *notes))
    files = write_matrices(sweep.cross, children, grids)
    invariant = find_invariants(grids, examples, cfg, metrics)
    content = {
        sweep.summary: sweep_summary(plan, outcome, children),
        sweep.cross / "invariants.json": invariant | confirmed(sweep, plan, invariant),
        sweep.cross / "hypotheses.json": judge_hypotheses(declared, grids, examples, cfg, metrics),
        sweep.cross / "geometry.json": geometry(grids, metrics),
    }
    files += [write_json(path, value) for path, value in content.items()]
    if robust:
        tables = {"robustness": robust.agreement, "robustness_heads": robust.heads}
        files += [write_table(sweep.cross / f"{name}.parquet", table) for name, table in tables.items()]
        files.append(write_json(sweep.cross / "robustness.json", robust.summary))
    outcome = replace(outcome, files=tuple(files))
    write_sweep_manifest(outcome)
    return outcome


def invariants(sweep_dir: Path, change: Callable[[SweepConfig], SweepConfig], *, write: bool) -> dict[str, Any]:
    """See `sweep_invariants`."""
    sweep, plan = SweepDir(sweep_dir), read_plan(sweep_dir)
    cfg = change(sweep_config(plan.settings))
    states, children = collect(sweep, plan)
    if not children:
        raise ResultsError(f"{sweep_dir} has no finished run; `tiny-ablate status {sweep_dir}` says why")
    grids, metrics = effect_grids(children), ranking_metrics(cfg, children)
    content = find_invariants(grids, [Examples(grid, metrics) for grid in grids], cfg, metrics)
    content |= confirmed(sweep, plan, content)
    if write:
        write_json(sweep.cross / "invariants.json", content)
        write_sweep_manifest(SweepOutcome(sweep_dir, tuple(states)))
    return content


def _warnings(plan: SweepPlan, states: Sequence[CellState], children: Sequence[FinishedRun]) -> Iterator[str]:
    if not plan.content:
        yield "an earlier version planned this sweep and did not record the weights and data of its runs: they may differ"
    for name in plan.conditions:
        found = [child for child in children if child.cell.condition == name]
        if len(found) > 1 and not any(child.seed_matters for child in found):
            one = f"so the {len(found)} seeds are one measurement, not {len(found)}"
            yield f"{name}: the seed changes nothing in these runs (seed_effect: none), {one}"
    for state in states:
        if state.state == "duplicate":
            yield f"{state.cell.dir} is left out: {state.error}"


def _robustness(children: Sequence[FinishedRun]) -> tuple[RobustnessTables | None, list[str]]:
    """How far several ways to intervene agree, where the sweep has several of one model and behaviour; and why not, if not."""
    if any(child.chosen is not None for child in children):  # nothing is known of the heads that were not measured
        return None, []
    try:
        return sweep_robustness([load_run(child.dir.path, check=False) for child in children]), []
    except NothingShared as error:
        return None, [f"the ways of intervening are not compared head by head: {error}"]


def write_matrices(directory: Path, children: Sequence[FinishedRun], grids: Sequence[Effects]) -> list[Path]:
    """Write `head_matrix.parquet`, `head_means.parquet` and the like; those of earlier runs that are gone are deleted.

    A matrix has the columns of its impact table, rows in the order of the plan. The means have a row per condition, direction,
    metric and site: `delta` is the mean over seeds, with its interval over the examples of all of them, pooled and
    clustered by group; `seeds_low` and `seeds_high` are the lowest and highest of a seed, which is no interval.
    """
    written = []
    for table in TABLES:
        matrix, means = (directory / f"{table.removesuffix('_impact')}_{what}.parquet" for what in ("matrix", "means"))
        parts = [child.impact for child in children if child.table == table]
        frames = [frame for grid in grids if grid.table == table for frame in _means(grid)]
        for path, made in ((matrix, parts and pa.concat_tables(parts)), (means, frames and pd.concat(frames))):
            if len(made):
                written.append(write_table(path, made))
            else:
                delete(path)
    return written


def _means(grid: Effects) -> Iterator[pd.DataFrame]:
    sites = pd.DataFrame(list(grid.sites), columns=list(grid.index))
    for profile, metric in product(grid.profiles, grid.metrics):
        values = grid.of_seeds(profile, metric)
        there = np.asarray(np.isfinite(values).all(0))
        if not there.any():
            continue
        low, high = _bounds(grid, profile, metric, there)
        of_seeds = values[:, there]
        numbers = {"delta": of_seeds.mean(0), "ci_low": low, "ci_high": high}
        numbers |= {"seeds_low": of_seeds.min(0), "seeds_high": of_seeds.max(0)}
        first = {
            "condition": profile.condition,
            "model": grid.model,
            "direction": grid.directions[grid.direction_index(profile)],
            "metric": metric,
            "n_seeds": np.int32(len(profile.runs)),
        }
        yield sites.loc[there].assign(**numbers, **first)[[*first, *sites.columns, *numbers]]


def _bounds(grid: Effects, profile: Profile, metric: str, there: NDArray[np.bool_]) -> Intervals:
    """The intervals of these sites: those of the run, or of the examples of all seeds."""
    if len(profile.runs) == 1:
        own = grid.own_intervals(profile, metric)
        return Intervals(own.low[there], own.high[there])
    grouped = Examples(grid, [metric]).grouped(profile, metric)
    if grouped is None:
        return Intervals(*np.full((2, int(there.sum())), np.nan))
    level = confidence(grid.children)
    return pooled_intervals(metric, grouped.sums[there], grouped.sizes[there], level, effects=True)
