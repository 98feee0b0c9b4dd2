"""One condition's top set, and whether components have an effect in as many conditions as an operation on top sets asks for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tiny_ablation.config.schema import EffectSign, SetOperation, SweepConfig
from tiny_ablation.config.sweep import TopSet
from tiny_ablation.run.site_statistics import no_test_of
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.conjunction import partial_conjunction
from tiny_ablation.stats.fdr import LEVEL, q_values
from tiny_ablation.sweep.analysis.effect_sign import strength
from tiny_ablation.sweep.analysis.examples import Grouped

Members = NDArray[np.bool_]


def top_set(
    score: Floats, shared: Members, grouped: Grouped | None, top: TopSet, label: str, direction: EffectSign, notes: list[str]
) -> Members:
    """(n_sites,) the strongest components of a condition, or those that a test finds; `notes` gets why they are few."""
    if top.n is not None:
        chosen = strongest(score[None], top.n)[0]
        if (n := int(chosen.sum())) < top.n:
            what = "any effect" if direction is EffectSign.both else f"an effect that {direction.value}"
            notes.append(f"{label}: {n} of {int(shared.sum())} components have {what}, fewer than k={top.n}")
        return chosen
    q = np.full(len(score), np.nan)
    if grouped is not None and top.q is not None and shared.any():
        q[shared] = q_values(grouped.tests(shared, top.q).p)
    chosen = (score > 0) & (q <= (top.q or 0))
    if not chosen.any():
        notes.append(f"{label}: no component has a q-value up to {top.q}")
    return chosen


def strongest(score: Floats, k: int) -> Members:
    """(n, n_sites) the k strongest of each row that are above 0; the first wins a tie."""
    members = np.zeros(score.shape, dtype=np.bool_)
    np.put_along_axis(members, np.argsort(-score, axis=1, kind="stable")[:, :k], True, axis=1)
    return members & (score > 0)


def conjunction_q(
    grouped: Sequence[Grouped | None],
    mean: Floats,
    candidates: NDArray[np.bool_],
    cfg: SweepConfig,
    metric: str,
    notes: list[str],
) -> Floats | None:
    """(n_sites,) the q-value of each component over the candidates, and 1 elsewhere; None where nothing can be tested.

    Candidates are sites that may be in the top sets of all conditions (of any, for a union or difference). `mean` and
    `candidates` are (n_conditions, n_sites); with `sweep.direction` a mean of the other sign is no effect. `notes` gets the
    reason why there is no test.
    """
    there = [g for g in grouped if g is not None and len(g.groups) > 1]
    reason = no_test_of(metric)
    if reason or len(there) < len(grouped):
        why = reason.removeprefix("none: ") if reason else "examples are of one group, or were not kept"
        notes.append(f"whether components have an effect at all is not tested: {why}")
        return None
    one = cfg.op in (SetOperation.union, SetOperation.difference)
    of_all = candidates.any(0) if one else candidates.all(0)
    p = np.ones(mean.shape)
    for i, each in enumerate(there):
        mine = of_all & candidates[i]
        if mine.any():
            found = each.tests(mine, LEVEL).p
            p[i, mine] = np.where(strength(mean[i, mine], metric, cfg.direction) > 0, np.nan_to_num(found, nan=1.0), 1.0)
    q = np.ones(mean.shape[1])
    at_least = 1 if one else len(p) if cfg.op is SetOperation.intersection else len(p) // 2 + 1
    q[of_all] = q_values(partial_conjunction(p[:, of_all], at_least))
    return q
