"""Which components matter in several conditions, whether chance would give as many, and whether they would come up again.

Each condition has a top set per metric, from effects averaged over seeds; `sweep.op` combines the sets. What is kept must also
be resolved: a test by component, that as many conditions have an effect as the operation asks for, with the false discovery
rate over components. Beside the result stand the size of the combined top sets against what joint sign flips of the groups give
(noise that conditions share, and components of louder noise, make sets alike too) and against random sets, the agreement of the
whole rankings, and how often each member returns when the examples are drawn anew. A set that was chosen and measured on the
same examples flatters its members: look again on another split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_ablation.config.schema import EffectSign, SetOperation, SweepConfig
from tiny_ablation.config.sweep import parse_k
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.fdr import LEVEL
from tiny_ablation.stats.overlap import combine
from tiny_ablation.stats.ranks import kendalls_w, rank_biased_overlaps
from tiny_ablation.sweep.analysis.children import FinishedRun
from tiny_ablation.sweep.analysis.effect_sign import convention, strength, worse_sign
from tiny_ablation.sweep.analysis.effects import Effects, Profile
from tiny_ablation.sweep.analysis.examples import Examples, Grouped
from tiny_ablation.sweep.analysis.overlap_chances import chances
from tiny_ablation.sweep.analysis.top_sets import Members, conjunction_q, strongest, top_set

# By operation: where what it keeps stands, and in how many conditions it has an effect.
KEPT = {
    SetOperation.intersection: ("in the top set of every condition", "each"),
    SetOperation.union: ("in the top set of at least one condition", "one"),
    SetOperation.majority: ("in the top sets of more than half of the conditions", "as many"),
    SetOperation.difference: ("in the top set of exactly one condition", "one"),
}


def ranking_metrics(cfg: SweepConfig, children: Sequence[FinishedRun]) -> list[str]:
    """The metrics that rank components: those of the config, or the runs' own primary metrics in order of occurrence."""
    return list(cfg.metrics or dict.fromkeys(str(child.summary["primary"]) for child in children))


def find_invariants(
    grids: Sequence[Effects], examples: Sequence[Examples], cfg: SweepConfig, metrics: Sequence[str]
) -> dict[str, Any]:
    """The content of `invariants.json`, from the grids (one per impact table and model) and their examples.

    `metrics` rank components; `heads` and `layers` are those in the result of every one of them.
    """
    found = [
        InvariantSet.of(grid, each, cfg, metric)
        for grid, each in zip(grids, examples, strict=True)
        for metric in metrics
        if metric in grid.metrics
    ]
    layers = {entry["layer"] for entry in _in_all_metrics(found, "layer_impact")}
    return {
        "k": cfg.k,
        "metrics": list(metrics),
        "heads": _in_all_metrics(found, "head_impact"),
        "layers": sorted(layers),
        "op": cfg.op.value,
        "kept": ", with an effect in ".join(KEPT[cfg.op]),
        "direction": cfg.direction.value,
        "convention": {metric: convention(metric) for metric in metrics},
        "level": LEVEL,
        "n_resamples": cfg.n_resamples,
        "sets": [each.content() for each in found],
        "notes": list(_absent(grids, metrics)),
    }


def _in_all_metrics(found: Sequence["InvariantSet"], table: str) -> list[dict[str, Any]]:
    """The components of one table that are in the result of every metric; with the model where there are several."""
    mine = [each for each in found if each.grid.table == table]
    models = list(dict.fromkeys(each.grid.model for each in mine))
    out = []
    for model in models:
        same = [each for each in mine if each.grid.model == model]
        kept = np.logical_and.reduce([each.kept for each in same])
        tag = {"model": model} if len(models) > 1 else {}
        out += [same[0].grid.describe(int(i)) | tag for i in np.flatnonzero(kept)]
    return out


def _absent(grids: Sequence[Effects], metrics: Sequence[str]) -> Iterator[str]:
    if not grids:
        yield "no finished run has measured single components"
    for metric in metrics:
        if grids and not any(metric in grid.metrics for grid in grids):
            yield f"no run has the metric {metric}"
    models = sorted({grid.model for grid in grids})
    if len(models) > 1:
        yield f"components are compared within a model; there are {', '.join(models)}"


@dataclass(frozen=True)
class InvariantSet:
    """What the conditions of one grid have in common by one metric."""

    grid: Effects  # the effects
    metric: str  # that ranks components
    cfg: SweepConfig  # what was asked for
    profiles: list[Profile]  # what is compared: the conditions that have the metric
    shared: NDArray[np.bool_]  # (n_sites,) which components all of them have measured, or passed over when they screened
    candidates: NDArray[np.bool_]  # (n_profiles, n_sites) which of these may be in a top set; see `Effects.candidates`
    mean: Floats  # (n_profiles, n_sites) effects, mean over seeds
    score: Floats  # (n_profiles, n_sites) strength, minus infinity where a component is no candidate
    members: Members  # (n_profiles, n_sites) the top sets
    grouped: list[Grouped | None]  # the profiles' effects by group of examples, None where the runs keep none
    # (n_sites,) q-values over the shared candidates that as many conditions have an effect as the operation asks for; None
    # where the metric or the runs allow no test
    q: Floats | None
    notes: list[str]  # what to know

    @classmethod
    def of(cls, grid: Effects, examples: Examples, cfg: SweepConfig, metric: str) -> "InvariantSet":
        """Rank and choose."""
        there = grid.having(metric)
        mean = np.array([grid.mean(p, metric) for p in there])
        shared = np.logical_and.reduce([grid.judged(p, metric) for p in there])
        candidates = shared & np.array([grid.candidates(p, metric) for p in there])
        score = np.where(candidates, strength(mean, metric, cfg.direction), -np.inf)
        grouped = [examples.grouped(p, metric) for p in there]
        top, notes = parse_k(cfg.k), list(_notes(grid, metric, there, shared, cfg))
        tops = [top_set(score[i], candidates[i], grouped[i], top, p.label, cfg.direction, notes) for i, p in enumerate(there)]
        q = conjunction_q(grouped, mean, candidates, cfg, metric, notes)
        return cls(grid, metric, cfg, there, shared, candidates, mean, score, np.array(tops), grouped, q, notes)

    @property
    def overlap(self) -> NDArray[np.bool_]:
        """(n_sites,) the combined top sets."""
        return combine(self.members, self.cfg.op.value)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(n_sites,) the result: what of the combined top sets is resolved."""
        return self.overlap if self.q is None else self.overlap & (self.q <= LEVEL)

    def content(self) -> dict[str, Any]:
        """One entry of `sets`."""
        membership, returns, overlap = self._stability() or (None, None, None)
        n_mixed = int((self.kept & ~self._same_sign()).sum())
        mixed = "{} of the kept components have effects of different signs in different conditions (same_sign: false)"
        return {
            "table": self.grid.table,
            "model": self.grid.model,
            "metric": self.metric,
            "n_components": int(self.shared.sum()),
            "members": [self._member(int(i), returns) for i in np.flatnonzero(self.kept)],
            "size": int(self.kept.sum()),
            "overlap": int(self.overlap.sum()),
            "unresolved": [self._member(int(i), returns) for i in np.flatnonzero(self.overlap & ~self.kept)],
            "chance": chances(self),
            "agreement": self._agreement(),
            "conditions": [
                self._condition(i, membership, None if overlap is None else overlap[i]) for i in range(len(self.profiles))
            ],
            "notes": [*self.notes, mixed.format(n_mixed)] if n_mixed else self.notes,
        }

    def _member(self, site: int, returns: Floats | None) -> dict[str, Any]:
        return self.grid.describe(site) | {
            "conditions": [p.label for i, p in enumerate(self.profiles) if self.members[i, site]],
            "stability": None if returns is None else float(returns[site]),
            "same_sign": bool(self._same_sign()[site]),
            "q_value": None if self.q is None else float(self.q[site]),
            "delta": {p.label: float(self.mean[i, site]) for i, p in enumerate(self.profiles)},
        }

    def _same_sign(self) -> NDArray[np.bool_]:
        """(n_sites,) whether the effect has one sign in all conditions whose top set holds the component."""
        up, down = (self.members & (self.mean * sign > 0) for sign in (1, -1))
        return np.logical_not(up.any(0) & down.any(0))

    def _condition(self, i: int, membership: Floats | None, overlap: float | None) -> dict[str, Any]:
        profile = self.profiles[i]
        order = np.argsort(-self.score[i], kind="stable")
        chosen = [int(site) for site in order if self.members[i, site]]
        return {
            "condition": profile.condition,
            "direction": profile.direction,
            "n_seeds": len(profile.runs),
            "size": len(chosen),
            "stability": overlap,
            "members": [
                self.grid.describe(site)
                | {"delta": float(self.mean[i, site]), "stability": None if membership is None else float(membership[i, site])}
                for site in chosen
            ],
        }

    def _agreement(self) -> dict[str, Any] | None:
        """How alike the rankings of what all have measured are; None for one condition, or fewer than two components."""
        measured = np.isfinite(self.mean).all(0)
        if len(self.profiles) < 2 or measured.sum() < 2:
            return None
        score = strength(self.mean[:, measured], self.metric, self.cfg.direction)
        overlaps = rank_biased_overlaps(score)
        pairs = overlaps[np.triu_indices(len(overlaps), 1)]
        return {
            "kendalls_w": kendalls_w(score),
            "rbo_p": 0.9,
            "rbo_mean": float(pairs.mean()),
            "rbo_min": float(pairs.min()),
            "conditions": [p.label for p in self.profiles],
            "rbo": overlaps,
        }

    def _stability(self) -> tuple[Floats, Floats, list[float]] | None:
        """Over draws of examples: how often a component is in each top set, in the result, and the sets' mean overlap.

        A set that q-values chose is drawn with its own size, since testing every draw anew would take minutes.
        """
        there = [g for g in self.grouped if g is not None]
        if len(there) < len(self.profiles) or any(len(g.groups) < 2 for g in there):
            return None
        draws = []
        for i, grouped in enumerate(there):
            means = grouped.resampled_means(self.cfg.n_resamples)
            score = np.where(self.candidates[i], strength(means, self.metric, self.cfg.direction), -np.inf)
            draws.append(strongest(score, self.count(i)))
        drawn = np.array(draws)  # (profiles, draws, sites)
        shared = (drawn & self.members[:, None]).sum(2)
        either = (drawn | self.members[:, None]).sum(2)
        overlap = np.divide(shared, either, out=np.ones(shared.shape), where=either > 0).mean(1)
        returns = combine(np.swapaxes(drawn, 0, 1), self.cfg.op.value).mean(0)
        return drawn.mean(1), returns, overlap.tolist()

    def count(self, i: int) -> int:
        """How many members a condition's top set has."""
        return parse_k(self.cfg.k).n or int(self.members[i].sum())


def _notes(
    grid: Effects, metric: str, profiles: Sequence[Profile], shared: NDArray[np.bool_], cfg: SweepConfig
) -> Iterator[str]:
    if len(profiles) == 1:
        yield f"there is only the condition {profiles[0].label}, so nothing is compared: the set is its own top set"
    if without := [p.label for p in grid.profiles if p not in profiles]:
        yield f"left out, since they do not have the metric {metric}: {', '.join(without)}"
    if screened := [p.label for p in profiles if any(grid.children[run].chosen is not None for run in p.runs)]:
        yield f"{', '.join(screened)}: top sets hold only what screening chose to measure, nothing that it drew at random"
    chosen = [grid.candidates(p, metric) for p in profiles]
    for profile in profiles:
        lacks = int((np.logical_or.reduce(chosen) & ~np.isfinite(grid.mean(profile, metric))).sum())
        if lacks and all(grid.children[run].chosen is not None for run in profile.runs):
            yield (
                f"{profile.label}: {lacks} components that the screening of another condition chose were not measured here and "
                "count as not among its strongest; ablation.screen_also measures them"
            )
    if not shared.all():
        yield f"{int((~shared).sum())} components are left out, since not every run has measured them"
    if cfg.direction is not EffectSign.both and not worse_sign(metric):
        yield f"{metric} has no side that hurts, so sweep.direction={cfg.direction.value} finds nothing; use both"
