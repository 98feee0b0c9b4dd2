"""One condition's top set: its strongest components, or those that a test finds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_ablation.config.schema import EffectSign
from tiny_ablation.config.seeds import generator
from tiny_ablation.config.sweep import TopSet
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.fdr import can_resolve, q_values
from tiny_ablation.stats.signflip import resolution, sign_flip_pvalues
from tiny_ablation.sweep.analysis.examples import Grouped

N_PERM = 20_000

Members = NDArray[np.bool_]


def top_set(
    score: Floats, shared: NDArray[np.bool_], grouped: Grouped | None, top: TopSet, label: str,
    direction: EffectSign, notes: list[str],
) -> Members:  # fmt: skip
    """One condition's top set, (n_sites,); says in `notes` where it is smaller than was asked for."""
    if top.n is not None:
        chosen = strongest(score[None], top.n)[0]
        if (n := int(chosen.sum())) < top.n:
            what = "any effect" if direction is EffectSign.both else f"an effect that {direction.value}"
            notes.append(f"{label}: {n} of {int(shared.sum())} components have {what}, fewer than k={top.n}")
        return chosen
    q = np.full(len(score), np.nan)
    if grouped is not None and top.q is not None:
        n_groups, n_sites = len(grouped.groups), int(shared.sum())
        if can_resolve(n_sites, resolution(n_groups, N_PERM), top.q):
            q[shared] = q_values(_flip_pvalues(grouped, shared))
        else:
            notes.append(
                f"{label}: {n_groups} groups of examples are too few for q={top.q} over {n_sites} components"
            )
    chosen = (score > 0) & (q <= (top.q or 0))
    if not chosen.any():
        notes.append(f"{label}: no component has a q-value up to {top.q}")
    return chosen


def _flip_pvalues(grouped: Grouped, sites: Any) -> Floats:
    """Two-sided sign-flip p-values of the mean effect over seeds; groups of examples are flipped as a whole."""
    shares = grouped.shares[sites]
    rng = generator(0, "sweep", "sign flips", grouped.dataset, *grouped.groups)
    return sign_flip_pvalues(shares, grouped.groups, N_PERM, rng)


def strongest(score: Floats, k: int) -> Members:
    """(n, n_sites) the k strongest of each row that are above 0; the first wins a tie."""
    members = np.zeros(score.shape, dtype=np.bool_)
    np.put_along_axis(members, np.argsort(-score, axis=1, kind="stable")[:, :k], True, axis=1)
    return members & (score > 0)
