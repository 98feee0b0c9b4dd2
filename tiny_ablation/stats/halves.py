"""Random halves of the groups of examples: what one half finds, seen on the other, is free of the choice.

References:
    Meinshausen & Buehlmann 2010, Stability Selection (how often a site is chosen in halves).
    Rubin, Dudoit & van der Laan 2006, A Method to Increase the Power of Multiple Testing Procedures Through Sample Splitting.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.clusters import Floats, cluster_sums


def random_halves(n_groups: int, n_splits: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(n_splits, n_groups): which groups are in the first half, which has the odd one less."""
    order = rng.permuted(np.broadcast_to(np.arange(n_groups), (n_splits, n_groups)), axis=1)
    return order < n_groups // 2


class TopSets(NamedTuple):
    """How far random halves of the groups agree."""

    jaccard: float  # the mean overlap of the top sets of the two halves, in [0, 1]; NaN with fewer than two groups
    share: Floats  # (n_sites,) in which share of the halves a site is in the top set
    first: Floats  # (n_sites,) in which share of the halves it is the strongest


def top_set_agreement(values: ArrayLike, groups: ArrayLike, k: int, n_splits: int, rng: np.random.Generator) -> TopSets:
    """How far the top `k` sites of one half of the groups are those of the other.

    Effects are finite, (n_sites, n_examples), and a site's strength is their absolute mean. The halves are two independent
    samples, each half as large as the run's: two runs as large as this one would agree somewhat more. Steady from 100 splits.

    Raises:
        GuardError: there is no top `k`.
    """
    sums, sizes = cluster_sums(values, groups)
    if not 1 <= k <= len(sums):
        raise GuardError(f"There is no top {k} of {len(sums)} sites.")
    if len(sizes) < 2:
        return TopSets(float("nan"), *np.full((2, len(sums)), np.nan))
    first = random_halves(len(sizes), n_splits, rng).astype(np.float64)
    means = [(half @ sums.T) / (half @ sizes)[:, None] for half in (first, 1 - first)]
    tops = [_top(each, k, rng) for each in means]
    shared = (tops[0] & tops[1]).sum(1)
    often = [np.mean([_top(each, n, rng).mean(0) for each in means], axis=0) for n in (k, 1)]
    return TopSets(float((shared / (2 * k - shared)).mean()), *often)


def _top(means: Floats, k: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which sites are among the `k` strongest of each row of (n_draws, n_sites); chance decides ties."""
    members = np.zeros(means.shape, dtype=np.bool_)
    order = np.lexsort((rng.random(means.shape), -np.abs(means)), axis=1)
    np.put_along_axis(members, order[:, :k], True, axis=1)
    return members


def absolute_without_bias(halves: Floats) -> Floats:
    """The absolute value of a number that was measured with noise, without the bias that noise gives absolute values.

    The sign comes from one half of the groups and the size from the other, and back: where the true number is 0 the result is 0
    on average, and may lie below. `halves` is (2, n_splits, ...), the number as either half of each split gives it; the mean
    over splits is (...).
    """
    one, other = halves
    return np.asarray(((np.sign(one) * other + np.sign(other) * one) / 2).mean(0))
