"""Per-example effects of a sweep's runs, summed by group: all that resampling and tests over examples need.

Of each run's `per_example.parquet` only the columns that are needed are read, one run at a time; what stays in memory is a sum
per run, site and group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_ablation.config.seeds import generator
from tiny_ablation.errors import ResultsError
from tiny_ablation.stats.bootstrap_t import resample_groups
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.fdr import first_step
from tiny_ablation.stats.means import Means, cluster_means
from tiny_ablation.store.files import ANEW, read_arrow
from tiny_ablation.sweep.analysis.children import FinishedRun
from tiny_ablation.sweep.analysis.effects import Effects, Profile, codes, only_strongest, sites_of


@dataclass(frozen=True)
class Grouped:
    """Effects of one profile and metric by group of examples; the examples of all its seeds are pooled."""

    dataset: str  # where the examples are from
    groups: tuple[str, ...]  # the labels, ascending
    sums: Floats  # (n_sites, n_groups), effects summed over the group's examples
    sizes: Floats  # (n_sites, n_groups), how many examples those are

    @property
    def shares(self) -> Floats:
        """(n_sites, n_groups): each group's part in the mean effect, which is their sum."""
        with np.errstate(invalid="ignore"):
            return self.sums / self.sizes.sum(1, keepdims=True)

    @property
    def weights(self) -> Floats:
        """(n_sites, n_groups): each group's share of the examples; a row sums to 1."""
        with np.errstate(invalid="ignore"):
            return self.sizes / self.sizes.sum(1, keepdims=True)

    @property
    def names(self) -> list[tuple[str, str]]:
        """What each group is called in all profiles that have it."""
        return [(self.dataset, group) for group in self.groups]

    def resampled_means(self, n_draws: int) -> Floats:
        """(n_draws, n_sites): the mean effect, when groups of examples are drawn anew, with replacement.

        The draws depend on the data set and its groups alone, so profiles of the same examples share them.
        """
        drawn = resample_groups(len(self.groups), n_draws, self.rng("resample"))
        totals = drawn @ self.sizes.T
        return np.divide(drawn @ self.sums.T, totals, out=np.zeros_like(totals), where=totals > 0)

    def rng(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose, the same for every profile of these examples."""
        return generator(0, "sweep", purpose, self.dataset, *self.groups)

    def tests(self, sites: Any, level: float) -> Means:
        """The mean of some sites with its interval and two-sided p-value, as fine as a family of all of them needs.

        `sites` is an index; each was measured on examples of at least one group. `level` is the false discovery rate.
        """
        sums, sizes = self.sums[sites], self.sizes[sites]
        step = first_step(max(1, len(sums)), level)
        return cluster_means(sums, sizes, rng=self.rng("bootstrap"), step=step)


class Examples:
    """The grouped effects of one grid on some metrics, read once."""

    def __init__(self, effects: Effects, metrics: Sequence[str]) -> None:
        self._effects = effects
        self._metrics = list(dict.fromkeys(metrics))
        self._runs: dict[int, tuple[list[str], _Sums]] = {}

    def grouped(self, profile: Profile, metric: str) -> Grouped | None:
        """The profile's effects by group; None where the runs keep no per-example value of the metric.

        Raises:
            ResultsError: a run has the mean of a component, and no example of it.
        """
        direction = self._effects.directions[self._effects.direction_index(profile)]
        found = []
        for run in profile.runs:
            if run not in self._runs:
                self._runs[run] = _read(self._effects, self._effects.children[run], self._metrics)
            groups, by_metric = self._runs[run]
            if (direction, metric) not in by_metric:
                return None
            found.append((groups, *by_metric[direction, metric]))
        labels = sorted({label for groups, _, _ in found for label in groups})
        place = {label: i for i, label in enumerate(labels)}
        sums, sizes = np.zeros((2, len(self._effects.sites), len(labels)))
        known = self._effects.of_seeds(profile, metric)
        for run, mean, (groups, own_sums, own_sizes) in zip(profile.runs, known, found, strict=True):
            for site in np.flatnonzero((own_sizes.sum(1) == 0) & np.isfinite(mean)):
                child = self._effects.children[run]
                raise ResultsError(
                    f"{child.dir.per_example} is damaged: it has no {metric} of {self._effects.describe(int(site))}, whose "
                    f"mean stands in {child.table}. {ANEW}"
                )
            at = [place[label] for label in groups]
            sums[:, at] += own_sums
            sizes[:, at] += own_sizes
        dataset = str(self._effects.children[profile.runs[0]].summary.get("dataset"))
        return Grouped(dataset, tuple(labels), sums, sizes)


# By direction and metric: (n_sites, n_groups) sums of effects and (n_sites or 1, n_groups) numbers of examples.
_Sums = dict[tuple[str, str], tuple[Floats, Floats]]


def _read(effects: Effects, child: FinishedRun, metrics: Sequence[str]) -> tuple[list[str], _Sums]:
    """The groups of one run, and its effects by group."""
    texts = [name for name in effects.index if name in ("granularity", "position")]
    wanted = [*effects.index, "scale", "direction", "group"]
    wanted += [column for m in metrics for column in (m, f"{m}_baseline")]
    rows = only_strongest(read_arrow(child.dir.per_example, wanted, [*texts, "direction", "group"]))
    groups, group = codes(rows, "group")
    directions, direction = codes(rows, "direction")
    known: dict[Any, int] = {site: i for i, site in enumerate(effects.sites)}
    own, code = sites_of(rows, effects.index)
    site = np.array([known.get(each, -1) for each in own], dtype=np.int64)[code]  # -1: the impact table does not have it
    shape, sums = (len(effects.sites), len(groups)), {}
    for d, name in enumerate(directions):
        mine = (direction == d) & (site >= 0)
        for metric in metrics:
            if {metric, f"{metric}_baseline"} <= set(rows.column_names):
                value, baseline = (rows.column(column).to_numpy()[mine] for column in (metric, f"{metric}_baseline"))
                sums[name, metric] = _by_group(value - baseline, site[mine], group[mine], shape)
    return [str(g) for g in groups], sums


def _by_group(
    delta: Floats, site: NDArray[np.int64], group: NDArray[np.int64], shape: tuple[int, int]
) -> tuple[Floats, Floats]:
    there = np.isfinite(delta)
    cell = np.ravel_multi_index((site[there], group[there]), shape)
    sums = np.bincount(cell, delta[there], minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    sizes = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    # As a rule all sites were measured on the same examples; then one row is kept for all.
    return sums, sizes[:1].copy() if (sizes == sizes[:1]).all() else sizes
