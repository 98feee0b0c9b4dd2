"""The effects of a sweep's runs on one grid: runs by directions by metrics by sites.

Components can be compared only between runs that have the same ones, so there is a grid per impact table and model. Of several
scales, the strongest intervention is taken. A run that patches in both directions counts as two profiles of its condition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tiny_ablation.stats.clusters import Floats, Intervals
from tiny_ablation.store.schema import TABLES, at_strongest
from tiny_ablation.sweep.analysis.children import FinishedRun

Site = tuple[int | str, ...]


@dataclass(frozen=True)
class Profile:
    """The effects of one condition, in one direction."""

    condition: str  # its label
    direction: str | None  # the direction of the intervention, where the condition has several; else None
    runs: tuple[int, ...]  # which runs of the grid are its seeds; one only where other seeds are the same measurement

    @property
    def label(self) -> str:
        """For tables: the condition, and the direction where there are several."""
        return f"{self.condition} {self.direction}" if self.direction else self.condition


@dataclass(frozen=True)
class Effects:
    """Effects of every run of one impact table and model."""

    table: str  # a key of `TABLES`
    model: str  # the name of the model
    sites: tuple[Site, ...]  # the components, ascending; each has a value per column of `index`
    children: tuple[FinishedRun, ...]  # the runs
    directions: tuple[str, ...]  # of the interventions that occur
    metrics: tuple[str, ...]  # that occur
    delta: NDArray[np.float64]  # (n_children, n_directions, n_metrics, n_sites), NaN where a run has none
    low: NDArray[np.float64]  # likewise, the lower bound of each run's own interval
    high: NDArray[np.float64]  # likewise, the upper bound

    @property
    def index(self) -> tuple[str, ...]:
        """The columns that name a component."""
        return TABLES[self.table].site

    @cached_property
    def profiles(self) -> tuple[Profile, ...]:
        """Every condition and direction, in the order of the plan."""
        runs: dict[str, list[int]] = {}
        for i, child in enumerate(self.children):
            runs.setdefault(child.cell.condition, []).append(i)
        profiles = []
        for condition, found in runs.items():
            there = [name for d, name in enumerate(self.directions) if np.isfinite(self.delta[found, d]).any()]
            used = found if any(self.children[i].seed_matters for i in found) else found[:1]
            profiles += [Profile(condition, name if len(there) > 1 else None, tuple(used)) for name in there]
        return tuple(profiles)

    def having(self, metric: str) -> list[Profile]:
        """The profiles that have any value of a metric."""
        return [p for p in self.profiles if np.isfinite(self.mean(p, metric)).any()]

    def direction_index(self, profile: Profile) -> int:
        """Which direction of the grid the profile has."""
        if profile.direction is not None:
            return self.directions.index(profile.direction)
        finite = np.isfinite(self.delta[list(profile.runs)]).any(axis=(0, 2, 3))
        return int(np.argmax(finite))

    def of_seeds(self, profile: Profile, metric: str) -> Floats:
        """(n_seeds, n_sites) effects; NaN throughout for a metric that the grid does not have."""
        if metric not in self.metrics:
            return np.full((len(profile.runs), len(self.sites)), np.nan)
        return self.delta[list(profile.runs), self.direction_index(profile), self.metrics.index(metric)]

    def own_intervals(self, profile: Profile, metric: str) -> Intervals:
        """The intervals (n_sites,) of the first run of a profile."""
        at = (profile.runs[0], self.direction_index(profile), self.metrics.index(metric))
        return Intervals(self.low[at], self.high[at])

    def mean(self, profile: Profile, metric: str) -> Floats:
        """(n_sites,) mean effect over seeds; NaN where a seed has none."""
        return self.of_seeds(profile, metric).mean(0)

    def candidates(self, profile: Profile, metric: str) -> NDArray[np.bool_]:
        """(n_sites,) which sites may be among a condition's strongest: measured, and not as a control drawn at random."""
        found = np.isfinite(self.mean(profile, metric))
        for run in profile.runs:
            chosen = self.children[run].chosen
            if chosen is not None:
                found &= np.array([site in chosen for site in self.sites])
        return found

    def judged(self, profile: Profile, metric: str) -> NDArray[np.bool_]:
        """(n_sites,) which sites a condition has measured, or passed over when it screened."""
        if all(self.children[run].chosen is not None for run in profile.runs):
            return np.ones(len(self.sites), dtype=np.bool_)
        return np.isfinite(self.mean(profile, metric))

    def describe(self, site: int) -> dict[str, int | str]:
        """A component for JSON, such as `{"layer": 0, "head": 2}`."""
        return dict(zip(self.index, self.sites[site], strict=True))

    @cached_property
    def strata(self) -> NDArray[np.int64]:
        """(n_sites,) the layer of each component (the first of a pair's)."""
        return np.array([site[0] for site in self.sites], dtype=np.int64)


def effect_grids(children: Sequence[FinishedRun]) -> list[Effects]:
    """A grid per impact table and model, in the order in which they occur, of tables that are compared."""
    parts: dict[tuple[str, str], list[FinishedRun]] = {}
    for child in children:
        if TABLES[child.table].compared and len(child.impact):
            parts.setdefault((child.table, str(child.summary.get("model"))), []).append(child)
    return [_grid(table, model, found) for (table, model), found in parts.items()]


def _grid(table: str, model: str, children: list[FinishedRun]) -> Effects:
    impacts = [only_strongest(child.impact) for child in children]
    rows = pa.concat_tables(impacts).unify_dictionaries()
    run = np.repeat(np.arange(len(children)), [len(impact) for impact in impacts])
    directions, direction = codes(rows, "direction")
    metrics, metric = codes(rows, "metric")
    sites, site = sites_of(rows, TABLES[table].site)
    numbers = []
    for column in ("delta", "ci_low", "ci_high"):
        numbers.append(np.full((len(children), len(directions), len(metrics), len(sites)), np.nan))
        numbers[-1][run, direction, metric, site] = rows.column(column).to_numpy()
    names = tuple(map(str, metrics))
    return Effects(table, model, sites, tuple(children), tuple(map(str, directions)), names, *numbers)


def only_strongest(rows: pa.Table) -> pa.Table:
    """The rows at the strongest factor, where there are several."""
    if "scale" not in rows.column_names:
        return rows
    return rows.filter(pa.array(at_strongest(rows.column("scale").to_numpy())))


def codes(rows: pa.Table, column: str) -> tuple[list[Any], NDArray[np.int64]]:
    """The distinct values of a column, ascending, and which of them each row has; a missing text is empty."""
    values = rows.column(column).combine_chunks()
    if not pa.types.is_dictionary(values.type):
        distinct, code = np.unique(values.to_numpy(), return_inverse=True)
        return distinct.tolist(), code
    texts = [*values.dictionary.to_pylist(), ""]
    raw = values.indices.fill_null(len(texts) - 1).to_numpy()
    names = sorted({texts[i] for i in np.unique(raw)})
    place = np.array([names.index(text) if text in names else -1 for text in texts])
    return names, place[raw]


def sites_of(rows: pa.Table, index: tuple[str, ...]) -> tuple[tuple[Site, ...], NDArray[np.int64]]:
    """The components of a table, ascending, and which of them each row is about."""
    values, parts = zip(*(codes(rows, name) for name in index), strict=True)
    shape = tuple(len(v) for v in values)
    distinct, site = np.unique(np.ravel_multi_index(parts, shape), return_inverse=True)
    columns = [[v[i] for i in part] for v, part in zip(values, np.unravel_index(distinct, shape), strict=True)]
    return tuple(zip(*columns, strict=True)), site
