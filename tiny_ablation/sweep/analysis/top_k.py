"""One condition's top set: its strongest components, or those that a test finds."""

import numpy as np
from numpy.typing import NDArray

from tiny_ablation.config.schema import EffectSign
from tiny_ablation.config.sweep import TopSet
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.fdr import q_values
from tiny_ablation.sweep.analysis.examples import Grouped

Members = NDArray[np.bool_]


def top_set(
    score: Floats,
    shared: NDArray[np.bool_],
    grouped: Grouped | None,
    top: TopSet,
    label: str,
    direction: EffectSign,
    notes: list[str],
) -> Members:
    """One condition's top set, (n_sites,); says in `notes` where it is smaller than was asked for."""
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
