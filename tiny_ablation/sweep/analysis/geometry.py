"""How metrics and conditions lie to each other: correlations of metrics, distances and principal components of conditions."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tiny_ablation.stats.clusters import Floats
from tiny_ablation.store.schema import SCHEMA_VERSION
from tiny_ablation.sweep.analysis.effects import Effects, Profile

N_COMPONENTS, N_LOADINGS = 3, 10


def geometry(grids: Sequence[Effects], metrics: Sequence[str]) -> dict[str, Any]:
    """The content of `geometry.json`; conditions are compared by each of `metrics`."""
    return {
        "schema": SCHEMA_VERSION,
        "metrics": [_metrics(grid) for grid in grids],
        "conditions": [found for grid in grids for metric in metrics for found in _conditions(grid, metric)],
    }


def _metrics(grid: Effects) -> dict[str, Any]:
    """Spearman's correlation of every two metrics over the components of a condition, averaged over conditions."""
    tables = [np.array([grid.mean(p, m) for m in grid.metrics]) for p in grid.profiles]
    with np.errstate(invalid="ignore"):
        found = np.array([rank_correlations(table) for table in tables])
    counted = np.isfinite(found).sum(0)
    mean = np.divide(np.nansum(found, axis=0), counted, out=np.full(counted.shape, np.nan), where=counted > 0)
    about = {"table": grid.table, "model": grid.model, "names": list(grid.metrics)}
    return {**about, "rank_correlation": mean, "averaged_over": "conditions"}


def _conditions(grid: Effects, metric: str) -> Iterator[dict[str, Any]]:
    profiles = grid.having(metric)
    if len(profiles) < 2:
        return
    table = np.array([grid.mean(p, metric) for p in profiles])
    shared = np.isfinite(table).all(0)
    if int(shared.sum()) < 2:
        return
    yield {
        "table": grid.table,
        "model": grid.model,
        "metric": metric,
        "names": [p.label for p in profiles],
        "n_components": int(shared.sum()),
        "distance": 1 - rank_correlations(table[:, shared]),
        "distance_is": "1 - Spearman's rank correlation of effects over components",
        "principal_components": _principal(grid, profiles, table[:, shared], np.flatnonzero(shared)),
    }


def rank_correlations(rows: Floats) -> Floats:
    """(n, n) Spearman's correlation of every two of the (n, n_items) rows, NaN where a row is constant.

    Each is over the columns that both rows have; a missing item is NaN.
    """
    from scipy.stats import rankdata

    there = np.isfinite(rows)
    if (there == there[:1]).all():
        ranks = rankdata(rows[:, there[0]], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.atleast_2d(np.corrcoef(ranks))
        varied = np.ptp(ranks, axis=1) > 0 if ranks.shape[1] else np.zeros(len(rows), dtype=bool)
        found[~varied], found[:, ~varied] = np.nan, np.nan
        found[np.diag_indices(len(rows))] = np.where(varied, 1.0, np.nan)
        return found
    found = np.full((len(rows), len(rows)), np.nan)
    for i, j in np.ndindex(found.shape):
        both = there[i] & there[j]
        if both.sum() > 1:
            found[i, j] = rank_correlations(rows[[i, j]][:, both])[0, 1]
    return found


def _principal(grid: Effects, profiles: Sequence[Profile], table: Floats, sites: Any) -> list[dict[str, Any]]:
    """The directions in which conditions differ most, from the profiles less their mean over conditions."""
    left, values, right = np.linalg.svd(table - table.mean(0), full_matrices=False)
    share = values**2 / max(float((values**2).sum()), np.finfo(np.float64).tiny)
    out = []
    for i in range(min(N_COMPONENTS, len(profiles) - 1, len(values))):
        if share[i] < 1e-12:
            break
        turn = np.sign(right[i, np.argmax(np.abs(right[i]))])  # the strongest loading is positive
        order = np.argsort(-np.abs(right[i]), kind="stable")[:N_LOADINGS]
        out.append(
            {
                "share_of_variance": float(share[i]),
                "scores": {p.label: float(s) for p, s in zip(profiles, turn * values[i] * left[:, i], strict=True)},
                "loadings": [grid.describe(int(sites[j])) | {"loading": float(turn * right[i, j])} for j in order],
            }
        )
    return out
