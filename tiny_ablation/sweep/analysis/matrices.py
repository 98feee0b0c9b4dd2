"""The matrices: every impact row of every run with its condition, and the mean over seeds of each site."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tiny_ablation.stats.intervals import Intervals
from tiny_ablation.store.files import delete, write_table
from tiny_ablation.store.schema import TABLES
from tiny_ablation.sweep.analysis.children import FinishedRun, confidence
from tiny_ablation.sweep.analysis.effects import Effects, Profile
from tiny_ablation.sweep.analysis.examples import Examples
from tiny_ablation.sweep.analysis.pooled import pooled_intervals


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
    for profile in grid.profiles:
        for metric in grid.metrics:
            frame = _site_means(grid, profile, metric, sites)
            if len(frame):
                yield frame


def _site_means(grid: Effects, profile: Profile, metric: str, sites: pd.DataFrame) -> pd.DataFrame:
    values = grid.of_seeds(profile, metric)
    there = np.asarray(np.isfinite(values).all(0))
    low, high = _bounds(grid, profile, metric, there)
    frame = sites.loc[there].assign(
        delta=values[:, there].mean(0),
        ci_low=low,
        ci_high=high,
        seeds_low=values[:, there].min(0),
        seeds_high=values[:, there].max(0),
    )
    first = {
        "condition": profile.condition,
        "model": grid.model,
        "direction": grid.directions[grid.direction_index(profile)],
        "metric": metric,
        "n_seeds": np.int32(len(profile.runs)),
    }
    return frame.assign(**first)[[*first, *sites.columns, "delta", "ci_low", "ci_high", "seeds_low", "seeds_high"]]


def _bounds(grid: Effects, profile: Profile, metric: str, there: NDArray[np.bool_]) -> Intervals:
    """The intervals of these sites: those of the run, or of the examples of all seeds."""
    if len(profile.runs) == 1:
        own = grid.own_intervals(profile, metric)
        return Intervals(own.low[there], own.high[there])
    grouped = Examples(grid, [metric]).grouped(profile, metric) if there.any() else None
    if grouped is None:
        return Intervals(*np.full((2, int(there.sum())), np.nan))
    level = confidence(grid.children)
    return pooled_intervals(metric, grouped.sums[there], grouped.sizes[there], level, effects=True)
