"""Does each of two sets of heads hurt its own condition more than the other's, and more so than random sets of its size?

The effect of a set is the mean of its heads' single effects, so no further run is needed; how the heads act together is for
`ablation=heads_set_zero`, or `sweep.confirm=true`.
"""

from collections import Counter
from collections.abc import Sequence
from math import comb, prod
from typing import Any

import numpy as np

from tiny_ablation.ablations.shared.head_sets import HeadSet, label
from tiny_ablation.config.seeds import generator
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.profiles import difference_pvalue
from tiny_ablation.sweep.analysis.declared import DoubleDissociation
from tiny_ablation.sweep.analysis.effect_sign import worse_sign
from tiny_ablation.sweep.analysis.verdict import MeasuredGrid, NotTestable, Place, Verdict, largest, the_place

N_RANDOM = 9999
NULL = (
    "at least one set does not hurt its own condition more than the other (bootstrap-t over groups of examples), or no "
    "more so than a random set with as many heads of each layer (the measured heads of a layer are equally likely); largest "
    "p-value"
)


def double_dissociation(claim: DoubleDissociation, sources: Sequence[MeasuredGrid], metric: str) -> Verdict:
    """An intersection-union test over both sets, each against the other condition and against random sets.

    Raises:
        NotTestable: a condition did not finish, models differ, a head was not measured, or the metric has no side that hurts.
    """
    (name_a, set_a), (name_b, set_b) = claim.sets.items()
    a, b = the_place(sources, name_a), the_place(sources, name_b)
    if a.source is not b.source or a.source.effects.table != "head_impact":
        raise NotTestable(f"{name_a} and {name_b} have not measured the heads of one model")
    if not worse_sign(metric):
        raise NotTestable(f"{metric} has no side that hurts")
    parts = [_part(a, b, set_a, metric), _part(b, a, set_b, metric)]
    return Verdict(
        statement=f"{label(set_a)} hurts {name_a} more than {name_b}, and {label(set_b)} the reverse ({metric})",
        null=NULL,
        p_value=largest([part[key] for part in parts for key in ("p_examples", "p_random_sets")]),
        resolution=largest([part["resolution"] for part in parts]),
        parts=parts,
        notes=[note for part in parts for note in part.pop("notes")],
    )


def _part(own: Place, other: Place, heads: HeadSet, metric: str) -> dict[str, Any]:
    """One set: how much more it hurts its own condition, against sampling of examples and against random sets."""
    effects, sign = own.source.effects, worse_sign(metric)
    if absent := [head for head in heads if head not in effects.sites]:
        raise NotTestable(f"{label(tuple(absent))} was not measured")
    sites = [effects.sites.index(head) for head in heads]
    hurts_own, hurts_other = (sign * effects.mean(place.profile, metric) for place in (own, other))
    gap = hurts_own - hurts_other
    if np.isnan(gap[sites]).any():
        raise NotTestable(f"{own.profile.label} and {other.profile.label} have not both measured {label(heads)}")
    layers, measured = sorted(Counter(layer for layer, _ in heads).items()), np.isfinite(gap)
    pools = [(np.flatnonzero((effects.strata == layer) & measured), k) for layer, k in layers]
    choices = prod(comb(len(pool), k) for pool, k in pools)
    random = _random_gaps(pools, heads, gap, metric)
    mine = float(gap[sites].mean())
    few = f"{label(heads)}: only {choices} sets have its size and layers, so p cannot be below {1 / choices:.2g}"
    return {
        "set": label(heads),
        "own": own.profile.label,
        "other": other.profile.label,
        "hurts_own": float(hurts_own[sites].mean()),
        "hurts_other": float(hurts_other[sites].mean()),
        "difference": mine,
        "random_sets": float(random.mean()),
        "p_examples": _p_examples(own, other, sites, metric, sign, mine),
        "p_random_sets": float((1 + (random >= mine - 1e-12 * abs(mine)).sum()) / (1 + len(random))),
        "resolution": max(1 / choices, 1 / (1 + N_RANDOM)),
        "notes": [few] if choices < 100 else [],
    }


def _p_examples(own: Place, other: Place, sites: Sequence[int], metric: str, sign: int, gap: float) -> float:
    """That the set hurts its own condition more; paired where both have the same examples."""
    a, b = own.grouped(metric), other.grouped(metric)
    (x, wx), (y, wy) = ((sign * g.shares[sites].mean(0)[None], g.weights[sites].mean(0)[None]) for g in (a, b))
    rng = generator(0, "sweep", "dissociation", a.dataset, b.dataset, *a.groups, *b.groups)
    paired = (a.dataset, a.groups) == (b.dataset, b.groups)
    p = difference_pvalue((x - y, (wx + wy) / 2), None, rng) if paired else difference_pvalue((x, wx), (y, wy), rng)
    return p if np.isnan(p) or gap > 0 else 1.0


def _random_gaps(pools: Sequence[tuple[Any, int]], heads: HeadSet, gap: Floats, metric: str) -> Floats:
    """(N_RANDOM,) the difference for random sets, k sites of each pool; they may be the set itself."""
    rng = generator(0, "sweep", "dissociation", metric, label(heads))
    total = np.zeros(N_RANDOM)
    for sites, k in pools:
        drawn = np.argsort(rng.random((N_RANDOM, len(sites))), axis=1)[:, :k]
        total += gap[sites[drawn]].sum(1)
    return total / len(heads)
