"""Does one component have an effect of one sign in every condition?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiny_ablation.stats.fdr import LEVEL
from tiny_ablation.sweep.analysis.declared import EffectInAll
from tiny_ablation.sweep.analysis.effect_sign import worse_sign
from tiny_ablation.sweep.analysis.verdict import RESOLUTION, MeasuredGrid, NotTestable, Place, Verdict, largest, places

NULL = (
    "in at least one condition the mean effect over groups of examples is 0, or of the other sign (two-sided bootstrap-t in "
    "each condition, 1 where the sign is the other, and the largest p-value)"
)


def effect_in_all(claim: EffectInAll, sources: Sequence[MeasuredGrid], metric: str) -> Verdict:
    """An intersection-union test over conditions.

    Raises:
        NotTestable: a condition did not finish, or has no such component or metric.
    """
    found = []
    for label in (None,) if claim.conditions is None else claim.conditions:
        mine = list(places(sources, label))
        if not mine:
            raise NotTestable("no run finished" if label is None else f"no run of {label} finished")
        found += mine
    worse = worse_sign(metric)
    if claim.sign in ("hurts", "helps") and not worse:
        raise NotTestable(f"{metric} has no side that hurts")
    sign = {"positive": 1, "negative": -1, "hurts": worse, "helps": -worse}[claim.sign]
    parts = [_part(place, claim, metric, sign) for place in found]
    name = ", ".join(f"{key} {value}" for key, value in claim.component.items())
    way = {"positive": "raises", "negative": "lowers"}.get(claim.sign)
    said = f"intervening on {name} {f'{way} {metric}' if way else f'{claim.sign} ({metric})'}"
    return Verdict(
        statement=f"{said} in {', '.join(part['condition'] for part in parts)}",
        null=NULL,
        p_value=largest([part["p_value"] for part in parts]),
        resolution=largest([part["resolution"] for part in parts]),
        parts=parts,
    )


def _part(place: Place, claim: EffectInAll, metric: str, sign: int) -> dict[str, Any]:
    effects, profile = place.source.effects, place.profile
    sites = [i for i in range(len(effects.sites)) if claim.component.items() <= effects.describe(i).items()]
    if len(sites) != 1:
        why = "has several granularities of it; name one with granularity" if sites else "has not measured it"
        raise NotTestable(f"{profile.label} {why}")
    delta = float(effects.mean(profile, metric)[sites[0]])
    if np.isnan(delta):
        raise NotTestable(f"{profile.label} has no {metric} of it")
    grouped = place.grouped(metric)
    p = float(grouped.tests(sites, LEVEL).p[0])
    if np.isnan(p):
        raise NotTestable(f"{profile.label} has too few groups of examples with an effect")
    return {
        "condition": profile.label,
        "delta": delta,
        "p_value": p if delta * sign > 0 else 1.0,
        "n_groups": len(grouped.groups),
        "n_seeds": len(profile.runs),
        "resolution": RESOLUTION,
    }
