"""The matrices: every impact row of every run with its condition, and the mean over seeds of each site."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from tiny_ablation.stats.seeds_interval import student_intervals
from tiny_ablation.store.files import delete, write_table
from tiny_ablation.store.schema import TABLES
from tiny_ablation.sweep.analysis.children import FinishedRun, confidence
from tiny_ablation.sweep.analysis.effects import Effects, Profile


def write_matrices(directory: Path, children: Sequence[FinishedRun], grids: Sequence[Effects]) -> list[Path]:
    """Write `head_matrix.parquet`, `head_means.parquet` and the like; those of earlier runs that are gone are deleted.

    A matrix has the columns of its impact table, rows in the order of the plan. The means have a row per condition, direction,
    metric and site: `delta` is the mean over seeds, with its Student-t interval where seeds are replicates.
    """
    written = []
    for table in TABLES:
        matrix, means = (
            directory / f"{table.removesuffix('_impact')}_{what}.parquet" for what in ("matrix", "means")
        )
        parts = [child.impact for child in children if child.table == table]
        frames = [frame for grid in grids if grid.table == table for frame in _means(grid)]
        for path, made in (
            (matrix, parts and pa.concat_tables(parts)),
            (means, frames and pd.concat(frames)),
        ):
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
    there = np.isfinite(values).all(0)
    mean, low, high = student_intervals(values[:, there], confidence(grid.children))
    frame = sites.loc[there].assign(delta=mean, ci_low=low, ci_high=high)
    first = {
        "condition": profile.condition, "model": grid.model,
        "direction": grid.directions[grid.direction_index(profile)], "metric": metric,
        "n_seeds": np.int32(len(profile.runs)),
    }  # fmt: skip
    return frame.assign(**first)[[*first, *sites.columns, "delta", "ci_low", "ci_high"]]
