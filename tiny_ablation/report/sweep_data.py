"""What a sweep's files say, as the figures and the page of the sweep show it. Reads tables; computes no statistics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.errors import ResultsError
from tiny_ablation.run import effects
from tiny_ablation.store.files import read_json, read_table
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import TABLES
from tiny_ablation.store.sweepdir import SweepDir, SweepPlan, read_plan

Site = tuple[Any, ...]


@dataclass(frozen=True)
class Profile:
    """One condition, in one direction of patching where it has several.

    Attributes:
        label: its name on axes.
        interval: what its intervals are over: `examples of 3 seeds`, or `examples`.
    """

    label: str
    interval: str


@dataclass(frozen=True)
class Comparison:
    """The conditions of a sweep side by side: the sites of one impact table of one model, by one metric.

    Attributes:
        table: a key of `TABLES`.
        model: the name of the model.
        metric: what the effects are on.
        profiles: the conditions.
        sites: the values of the index columns, ascending.
        delta: (n_profiles, n_sites) mean effects; NaN where a condition has none.
        low: (n_profiles, n_sites) the intervals' lower ends; NaN where there is none.
        high: (n_profiles, n_sites) their upper ends.
        members: (n_profiles, n_sites) which sites are in a condition's top set.
        kept: (n_sites,) which sites the sweep calls invariant.
        examples: how many each run has, in words.
        entry: what `invariants.json` says of them.
        geometry: what `geometry.json` says of the same; empty where it says nothing.
        confidence: of the intervals.
    """

    table: str
    model: str
    metric: str
    profiles: tuple[Profile, ...]
    sites: tuple[Site, ...]
    delta: np.ndarray
    low: np.ndarray
    high: np.ndarray
    members: np.ndarray
    kept: np.ndarray
    examples: str
    entry: Mapping[str, Any]
    geometry: Mapping[str, Any]
    confidence: float

    @property
    def index(self) -> tuple[str, ...]:
        """The columns that name a site."""
        return TABLES[self.table].site

    @property
    def labels(self) -> list[str]:
        """The conditions."""
        return [profile.label for profile in self.profiles]

    @property
    def resolved(self) -> np.ndarray:
        """(n_profiles, n_sites) whether the interval excludes 0."""
        return (self.low > 0) | (self.high < 0)

    def label(self, site: int) -> str:
        """The short name of a site."""
        return effects.label(dict(zip(self.index, self.sites[site], strict=True)), self.index)

    def strongest(self) -> np.ndarray:
        """(n_sites,) sites: the invariants first, then by their largest effect in any condition."""
        largest = np.nanmax(np.abs(np.where(np.isnan(self.delta), 0.0, self.delta)), axis=0)
        return np.lexsort((np.arange(len(largest)), -largest, ~self.kept))


@dataclass(frozen=True)
class SweepData:
    """A sweep as it was aggregated.

    Attributes:
        sweep: its directory.
        plan: what was planned.
        summary: the content of `summary.json`.
        invariants: the content of `invariants.json`.
        hypotheses: the content of `hypotheses.json`.
        comparisons: by table, model and metric, in the order of `invariants.json`.
        robustness: the content of `robustness.json`; empty where the sweep does not ask one question in several ways.
    """

    sweep: SweepDir
    plan: SweepPlan
    summary: Mapping[str, Any]
    invariants: Mapping[str, Any]
    hypotheses: Mapping[str, Any]
    comparisons: tuple[Comparison, ...]
    robustness: Mapping[str, Any]

    @cached_property
    def finished(self) -> list[RunDir]:
        """The runs whose results are used, where the plan says, which was checked to stay inside the sweep's directory."""
        used = {cell["job"] for cell in self.summary["cells"] if cell["status"] == "ok"}
        return [self.sweep.run(cell) for cell in self.plan.cells if cell.job in used]

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
    content = {name: _optional(sweep.cross / f"{name}.json") for name in ("invariants", "hypotheses", "geometry", "robustness")}
    summary = read_json(sweep.summary)
    try:
        level = float(summary.get("confidence", 0.95))  # earlier versions did not say it
        comparisons = tuple(_comparisons(sweep, content["invariants"], content["geometry"], level))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ResultsError(
            f"{sweep.cross} is damaged ({type(error).__name__}: {error}). Say `tiny-ablate aggregate {sweep.path}`."
        ) from error
    return SweepData(sweep, plan, summary, content["invariants"], content["hypotheses"], comparisons, content["robustness"])


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _comparisons(
    sweep: SweepDir, invariants: Mapping[str, Any], geometry: Mapping[str, Any], level: float
) -> Iterator[Comparison]:
    for entry in invariants.get("sets", ()):
        stem = entry["table"].removesuffix("_impact")
        means = _same(read_table(sweep.cross / f"{stem}_means.parquet"), entry)
        matrix = _same(read_table(sweep.cross / f"{stem}_matrix.parquet"), entry)
        if len(means):
            yield _comparison(entry, means, matrix, _geometry_of(geometry, entry), level)


def _same(rows: pd.DataFrame, entry: Mapping[str, Any]) -> pd.DataFrame:
    return effects.where(rows, (rows["metric"] == entry["metric"]) & (rows["model"] == entry["model"]))


def _geometry_of(geometry: Mapping[str, Any], entry: Mapping[str, Any]) -> Mapping[str, Any]:
    same = ("table", "model", "metric")
    found = (g for g in geometry.get("conditions", ()) if all(g.get(key) == entry[key] for key in same))
    return next(found, {})


def _comparison(
    entry: Mapping[str, Any], means: pd.DataFrame, matrix: pd.DataFrame, geometry: Mapping[str, Any], level: float
) -> Comparison:
    index = list(TABLES[entry["table"]].site)
    sites = sorted({tuple(row) for row in means[index].to_numpy(dtype=object).tolist()})
    place = {site: i for i, site in enumerate(sites)}
    shape = (len(entry["conditions"]), len(sites))
    delta, low, high = (np.full(shape, np.nan) for _ in range(3))
    members, profiles = np.zeros(shape, dtype=bool), []
    for i, condition in enumerate(entry["conditions"]):
        rows = _of_condition(means, condition)
        n_seeds = int(rows["n_seeds"].to_numpy().max())
        at = [place[site] for site in rows[index].itertuples(index=False, name=None)]
        for target, column in ((delta, "delta"), (low, "ci_low"), (high, "ci_high")):
            target[i, at] = rows[column]
        members[i, [place[_site(member, index)] for member in condition["members"]]] = True
        profiles.append(Profile(_label(condition), f"examples of {n_seeds} seeds" if n_seeds > 1 else "examples"))
    kept = np.zeros(len(sites), dtype=bool)
    kept[[place[_site(member, index)] for member in entry["members"]]] = True
    return Comparison(
        entry["table"],
        entry["model"],
        entry["metric"],
        tuple(profiles),
        tuple(sites),
        delta,
        low,
        high,
        members,
        kept,
        effects.examples(matrix),
        entry,
        geometry,
        level,
    )


def _of_condition(rows: pd.DataFrame, condition: Mapping[str, Any]) -> pd.DataFrame:
    mask = rows["condition"] == condition["condition"]
    if condition["direction"]:
        mask &= rows["direction"] == condition["direction"]
    return effects.where(rows, mask)


def _site(member: Mapping[str, Any], index: Sequence[str]) -> Site:
    return tuple(member[name] for name in index)


def _label(condition: Mapping[str, Any]) -> str:
    return f"{condition['condition']} {condition['direction']}" if condition["direction"] else condition["condition"]
