"""What a sweep's files say, as the figures and the page of the sweep show it. Reads tables; computes no statistics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.errors import ResultsError
from tiny_ablation.run import effects
from tiny_ablation.stats.clusters import excludes_zero
from tiny_ablation.store.files import read_json, read_table
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import TABLES
from tiny_ablation.store.sweepdir import SweepDir, SweepPlan, finished, read_plan

Site = tuple[Any, ...]


@dataclass(frozen=True)
class Comparison:
    """The conditions of a sweep side by side: the sites of one impact table of one model, by one metric."""

    table: str  # a key of `TABLES`
    model: str  # the name of the model
    metric: str  # what the effects are on
    labels: Sequence[str]  # the conditions, each in one direction of patching where it has several
    intervals: Sequence[str]  # what the intervals of each are over: `examples of 3 seeds`, or `examples`
    sites: tuple[Site, ...]  # the values of the index columns, ascending
    delta: np.ndarray  # (n_profiles, n_sites) mean effects; NaN where a condition has none
    low: np.ndarray  # (n_profiles, n_sites) the intervals' lower ends; NaN where there is none
    high: np.ndarray  # (n_profiles, n_sites) their upper ends
    members: np.ndarray  # (n_profiles, n_sites) which sites are in a condition's top set
    kept: np.ndarray  # (n_sites,) which sites the sweep calls invariant
    examples: str  # how many each run has, in words
    entry: Mapping[str, Any]  # what `invariants.json` says of them
    geometry: Mapping[str, Any]  # what `geometry.json` says of the same; empty where it says nothing

    @property
    def index(self) -> tuple[str, ...]:
        """The columns that name a site."""
        return TABLES[self.table].site

    @property
    def resolved(self) -> np.ndarray:
        """(n_profiles, n_sites) whether the interval excludes 0."""
        return excludes_zero(self.low, self.high)

    def label(self, site: int) -> str:
        """The short name of a site."""
        return effects.label(dict(zip(self.index, self.sites[site], strict=True)), self.index)

    def strongest(self) -> np.ndarray:
        """(n_sites,) sites: the invariants first, then by their largest effect in any condition."""
        largest = np.nanmax(np.abs(np.where(np.isnan(self.delta), 0.0, self.delta)), axis=0)
        return np.lexsort((np.arange(len(largest)), -largest, ~self.kept))


@dataclass(frozen=True)
class SweepData:
    """A sweep as it was aggregated."""

    sweep: SweepDir  # its directory
    plan: SweepPlan  # what was planned
    summary: Mapping[str, Any]  # the content of `summary.json`
    invariants: Mapping[str, Any]  # the content of `invariants.json`
    hypotheses: Mapping[str, Any]  # the content of `hypotheses.json`
    comparisons: tuple[Comparison, ...]  # by table, model and metric, in the order of `invariants.json`
    # the content of `robustness.json`; empty where the sweep does not ask one question in several ways
    robustness: Mapping[str, Any]

    @cached_property
    def finished(self) -> list[RunDir]:
        """The runs whose results are used, where the plan says, which was checked to stay inside the sweep's directory."""
        return [self.sweep.run(cell) for cell in finished(self.plan, self.summary)]

    @cached_property
    def several_models(self) -> bool:
        """Whether names need the model."""
        return len({each.model for each in self.comparisons}) > 1


def read_sweep(sweep_dir: Path) -> SweepData:
    """What stands in the directory of an aggregated sweep.

    Raises:
        ResultsError: it is no sweep, it was not aggregated yet, or a file is damaged.
    """
    sweep = SweepDir(Path(sweep_dir))
    plan = read_plan(sweep.path)
    if not sweep.summary.is_file():
        raise ResultsError(f"{sweep.path} has no results yet: say `tiny-ablate aggregate {sweep.path}` first.")
    files = {name: sweep.cross / f"{name}.json" for name in ("invariants", "hypotheses", "geometry", "robustness")}
    content = {name: read_json(file) if file.is_file() else {} for name, file in files.items()}
    summary = read_json(sweep.summary)
    try:
        comparisons = tuple(_comparisons(sweep, content["invariants"], content["geometry"]))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ResultsError(
            f"{sweep.cross} is damaged ({type(error).__name__}: {error}). Say `tiny-ablate aggregate {sweep.path}`."
        ) from error
    return SweepData(sweep, plan, summary, content["invariants"], content["hypotheses"], comparisons, content["robustness"])


def _comparisons(sweep: SweepDir, invariants: Mapping[str, Any], geometry: Mapping[str, Any]) -> Iterator[Comparison]:
    read = cache(read_table)  # a table is of several models and metrics
    for entry in invariants.get("sets", ()):
        stem = entry["table"].removesuffix("_impact")
        tables = (read(sweep.cross / f"{stem}_{what}.parquet") for what in ("means", "matrix"))
        means, matrix = (
            effects.where(rows, (rows["metric"] == entry["metric"]) & (rows["model"] == entry["model"])) for rows in tables
        )
        if len(means):
            keys = ("table", "model", "metric")
            same = (g for g in geometry.get("conditions", ()) if all(g.get(key) == entry[key] for key in keys))
            yield _comparison(entry, means, effects.examples(matrix), next(same, {}))


def _comparison(entry: Mapping[str, Any], means: pd.DataFrame, examples: str, geometry: Mapping[str, Any]) -> Comparison:
    index = list(TABLES[entry["table"]].site)
    sites = sorted({tuple(row) for row in means[index].to_numpy(dtype=object).tolist()})
    place = {site: i for i, site in enumerate(sites)}
    shape = (len(entry["conditions"]), len(sites))
    delta, low, high = (np.full(shape, np.nan) for _ in range(3))
    members, labels, intervals = np.zeros(shape, dtype=bool), [], []
    for i, condition in enumerate(entry["conditions"]):
        name, direction = condition["condition"], condition["direction"]
        mine = means["condition"] == name
        rows = effects.where(means, mine & (means["direction"] == direction) if direction else mine)
        n_seeds = int(rows["n_seeds"].to_numpy().max())
        at = [place[site] for site in rows[index].itertuples(index=False, name=None)]
        for target, column in ((delta, "delta"), (low, "ci_low"), (high, "ci_high")):
            target[i, at] = rows[column]
        members[i, [place[tuple(member[part] for part in index)] for member in condition["members"]]] = True
        labels.append(f"{name} {direction}" if direction else name)
        intervals.append(f"examples of {n_seeds} seeds" if n_seeds > 1 else "examples")
    kept = np.zeros(len(sites), dtype=bool)
    kept[[place[tuple(member[part] for part in index)] for member in entry["members"]]] = True
    measured = (tuple(sites), delta, low, high, members, kept)
    about = (entry["table"], entry["model"], entry["metric"], labels, intervals)
    return Comparison(*about, *measured, examples, entry, geometry)
