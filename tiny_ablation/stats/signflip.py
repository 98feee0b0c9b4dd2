"""Is an effect more than chance? Sign-flip p-values, exact for few groups.

Null hypothesis: each group's total effect is as likely to have either sign, independently of the other
groups, so that flipping the signs of whole groups changes nothing. The statistic is the absolute mean effect.
All sites share the flips, so a joint statement over sites stays possible.

Reference:
    Phipson & Smyth 2010, Permutation P-values Should Never Be Zero (the added one); Canay, Romano & Shaikh
    2017, Randomization Tests under an Approximate Symmetry Assumption (flips of clusters).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.clusters import Floats, cluster_sums

NULL = "sign_flip"

# Flips are drawn and used in blocks of at most this many numbers (32 MB), whatever the number of sites.
_BLOCK = 4_000_000
# Rounding in a sum of group totals, relative to the sum of their absolute values, is well below this.
_TIE = 1e-10


def sign_flip_pvalues(deltas: ArrayLike, groups: ArrayLike, n_perm: int, rng: np.random.Generator) -> Floats:
    """The two-sided p-value of each site's mean effect.

    All `2**n_groups` flips are counted when that is at most `n_perm`; else `n_perm` are drawn, and p is
    `(1 + count) / (1 + n_perm)`.

    Args:
        deltas: (n_sites, n_examples), effects, finite.
        groups: (n_examples,), labels of what is flipped as a whole.
        n_perm: flips.
        rng: the source of the flips; unused when all are counted.

    Returns:
        (n_sites,), in (0, 1]; exactly 1 at a site whose effects are all 0.

    Raises:
        GuardError: a value is NaN or infinite, or the shapes do not fit.
    """
    totals = cluster_sums(deltas, groups).sums  # (n_sites, n_groups)
    n_sites, n_groups = totals.shape
    # A flip that ties with the data counts as extreme; without the margin, rounding would decide.
    least = np.abs(totals.sum(1)) - _TIE * np.abs(totals).sum(1)
    flips = _flips(n_groups, n_perm, max(n_sites, n_groups, 1), rng)
    count = np.zeros(n_sites, dtype=np.int64)
    for signs in flips.blocks:
        count += (np.abs(signs @ totals.T) >= least).sum(0)
    return (flips.own + count) / (flips.own + flips.n)


def profile_pvalue(deltas: ArrayLike, groups: ArrayLike, n_perm: int, rng: np.random.Generator) -> float:
    """The p-value of all sites together: is any mean effect more than chance?

    The statistic is the sum over sites of squared t values, so that one clear site counts among many, and sites with large
    effects do not drown the others. A flip turns the whole profile of a group, so sites may depend on each other in any way.

    Args:
        deltas: as in `sign_flip_pvalues`.
        groups: as there.
        n_perm: as there.
        rng: as there.

    Returns:
        In (0, 1]; 1 where no site has any effect.

    Raises:
        GuardError: as there.
    """
    totals = cluster_sums(deltas, groups).sums
    totals = totals[(totals != 0).any(1)]
    if not len(totals):
        return 1.0
    scaled = totals / np.sqrt((totals**2).sum(1, keepdims=True))  # flips leave the squares as they are
    least = _sum_of_squared_t(np.ones((1, scaled.shape[1])), scaled)[0] * (1 - _TIE)
    flips = _flips(scaled.shape[1], n_perm, max(scaled.shape), rng)
    count = sum(int((_sum_of_squared_t(signs, scaled) >= least).sum()) for signs in flips.blocks)
    return (flips.own + count) / (flips.own + flips.n)


def _sum_of_squared_t(signs: Floats, scaled: Floats) -> Floats:
    """(n_flips,) of totals (n_sites, n_groups) whose squares sum to 1 at each site."""
    share = (signs @ scaled.T) ** 2 / scaled.shape[1]  # of the mean in the sum of squares, 0 to 1
    return (share / np.maximum(1 - share, _TIE)).sum(1)


def resolution(n_groups: int, n_perm: int) -> float:
    """The smallest p-value that `sign_flip_pvalues` can give for this many groups."""
    # A flip of everything is as extreme as the data, so two of the 2**n_groups always count.
    smallest = 2.0 ** (1 - n_groups)
    return smallest if _is_exact(n_groups, n_perm) else max(smallest, 1 / (1 + n_perm))


class _Flips(NamedTuple):
    """Which flips are looked at."""

    blocks: Iterator[Floats]  # of signs, (rows, n_groups)
    n: int  # how many in all
    own: int  # 1 where the data's own signs count besides


def _flips(n_groups: int, n_perm: int, width: int, rng: np.random.Generator) -> _Flips:
    """All flips where there are few, else random ones, in blocks that make arrays of `width` columns at most."""
    if n_perm < 1:
        raise GuardError(f"stats.n_perm must be at least 1, not {n_perm}.")
    rows = max(1, _BLOCK // width)
    if _is_exact(n_groups, n_perm):
        return _Flips(_all_signs(n_groups, rows), 2 ** (n_groups - 1), 0)
    return _Flips(_random_signs(n_groups, n_perm, rows, rng), n_perm, 1)


def _is_exact(n_groups: int, n_perm: int) -> bool:
    return 2**n_groups <= n_perm or n_groups == 1


def _all_signs(n_groups: int, rows: int) -> Iterator[Floats]:
    """Blocks (rows, n_groups) of every pattern with the first sign up; the others mirror them."""
    bits = np.arange(n_groups - 1)
    for start in range(0, 2 ** (n_groups - 1), rows):
        numbers = np.arange(start, min(start + rows, 2 ** (n_groups - 1)))
        signs = 1.0 - 2.0 * ((numbers[:, None] >> bits) & 1)
        yield np.hstack([np.ones((len(numbers), 1)), signs])


def _random_signs(n_groups: int, n_perm: int, rows: int, rng: np.random.Generator) -> Iterator[Floats]:
    words = -(-n_groups // 64)
    for start in range(0, n_perm, rows):
        # One draw per word, so that the flips do not depend on the size of a block.
        drawn = rng.integers(0, 2**64, size=(min(rows, n_perm - start), words), dtype=np.uint64)
        bits = np.unpackbits(drawn.astype("<u8").view(np.uint8), axis=1, count=n_groups)
        yield 1.0 - 2.0 * bits
