"""Two samples of groups of examples: do their profiles over sites differ, and is one mean larger?

Groups (templates) are the units; the examples within one are not independent.
"""

from collections.abc import Iterator
from math import comb

import numpy as np

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.clusters import Floats

_BLOCK = 4_000_000
_TIE = 1e-10


def permutation_pvalue(
    a: Floats, b: Floats, sizes_a: Floats, sizes_b: Floats, n_perm: int, rng: np.random.Generator
) -> float:
    """The p-value of a difference between the mean profiles of two samples.

    Null hypothesis: the groups of both samples come from one distribution, so which sample a group stands in says nothing. The
    statistic is the sum over sites of squared t values, so that one clear site counts among many, and sites with large effects
    do not drown the others. A permutation moves whole groups with their whole profiles, so the sites may depend on each other
    in any way.

    Args:
        a: (n_sites, n_groups_a), each group's effects summed over its examples.
        b: (n_sites, n_groups_b), the same.
        sizes_a: (n_sites, n_groups_a), examples per group; above 0.
        sizes_b: (n_sites, n_groups_b).
        n_perm: random permutations.
        rng: their source.

    Returns:
        In (0, 1]: `(1 + count) / (1 + n_perm)` (Phipson & Smyth 2010); 1 where all groups are equal at every site.

    Raises:
        GuardError: a value is NaN or infinite, or shapes do not fit.
    """
    sums, sizes = np.hstack([a, b]), np.hstack([sizes_a, sizes_b])
    if sums.shape != sizes.shape or not np.isfinite(sums).all() or not (sizes > 0).all():
        raise GuardError("Two samples need finite sums and a size above 0 for every site and group.")
    means = sums / sizes
    spread = np.average(
        (means - np.average(means, axis=1, weights=sizes)[:, None]) ** 2, axis=1, weights=sizes
    )
    varied = spread > _TIE * np.abs(means).max(1) ** 2
    if not varied.any():
        return 1.0
    sums, sizes, spread = sums[varied], sizes[varied], spread[varied]
    own = np.arange(sums.shape[1])[None, :] < a.shape[1]
    least = _statistic(own.astype(np.float64), sums, sizes, spread)[0] * (1 - _TIE)
    count = sum(
        int((_statistic(block, sums, sizes, spread) >= least).sum())
        for block in _permuted(own[0], n_perm, max(sums.shape), rng)
    )
    return (1 + count) / (1 + n_perm)


def permutation_resolution(n_groups_a: int, n_groups_b: int, n_perm: int) -> float:
    """About the smallest p-value that `permutation_pvalue` can give: equally many groups can also trade places as a whole."""
    mirrors = 2 if n_groups_a == n_groups_b else 1
    return max(mirrors / comb(n_groups_a + n_groups_b, n_groups_a), 1 / (1 + n_perm))


def _statistic(in_a: Floats, sums: Floats, sizes: Floats, spread: Floats) -> Floats:
    """(n_perm,) the statistic of each assignment (n_perm, n_groups)."""
    sums_a, sizes_a, total = in_a @ sums.T, in_a @ sizes.T, sizes.sum(1)
    difference = sums_a / sizes_a - (sums.sum(1) - sums_a) / (total - sizes_a)
    # Of the difference in the spread of all groups, 0 to 1.
    share = sizes_a * (total - sizes_a) / total**2 * difference**2 / spread
    return (share / np.maximum(1 - share, _TIE)).sum(1)


def _permuted(own: Floats, n_perm: int, width: int, rng: np.random.Generator) -> Iterator[Floats]:
    rows = max(1, _BLOCK // width)
    for start in range(0, n_perm, rows):
        block = np.broadcast_to(own, (min(rows, n_perm - start), len(own)))
        yield rng.permuted(block, axis=1).astype(np.float64)


def larger_pvalue(a: Floats, b: Floats, sizes_a: Floats, sizes_b: Floats, *, paired: bool) -> float:
    """The one-sided p-value that the mean of `a` is larger than that of `b`.

    Null hypothesis: it is not. Cluster-robust Student t of the difference of the two means of examples; unpaired with Welch's
    degrees of freedom (Welch 1947), where each sample has its groups less one.

    Args:
        a: (n_groups_a,), each group's values summed over its examples.
        b: (n_groups_b,).
        sizes_a: (n_groups_a,), examples per group.
        sizes_b: (n_groups_b,).
        paired: the groups of both are the same, in one order, so that their differences count.

    Returns:
        In [0, 1]; NaN with fewer than two groups in a sample, or without any spread.
    """
    from scipy.stats import t

    if min(len(a), len(b)) < 2:
        return float("nan")
    difference = a.sum() / sizes_a.sum() - b.sum() / sizes_b.sum()
    if paired:
        variances = [_variance(_residuals(a, sizes_a) - _residuals(b, sizes_b))]
    else:
        variances = [_variance(_residuals(a, sizes_a)), _variance(_residuals(b, sizes_b))]
    total = sum(variances)
    if total <= 0:
        return float("nan")
    counts = [len(a), len(b)]
    freedom = total**2 / sum(v**2 / (n - 1) for v, n in zip(variances, counts, strict=False))
    return float(t.sf(difference / np.sqrt(total), freedom))


def _residuals(sums: Floats, sizes: Floats) -> Floats:
    """(n_groups,) what each group adds to the error of the mean."""
    return (sums - sums.sum() / sizes.sum() * sizes) / sizes.sum()


def _variance(residuals: Floats) -> float:
    return float(len(residuals) / (len(residuals) - 1) * (residuals**2).sum())
