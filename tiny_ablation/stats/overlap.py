"""Would sets drawn at random share as much? The size of what several random sets have in common.

Null hypothesis: each set is drawn at random, independently of the others, with as many items of each stratum (a layer, or
everything as one stratum) as it was seen to have. Intersection and union are exact; majority and difference are drawn.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.clusters import Floats, Ints

Operation = Literal["intersection", "union", "majority", "difference"]

# Few items in the union or the difference of sets, and many in the others, mean that the sets are alike.
LIKE_WHEN_SMALL = frozenset({"union", "difference"})

# Draws for what has no short exact form, and how many random numbers they may need in all.
_N_DRAWS, _N_NUMBERS, _AT_ONCE = 9999, 100_000_000, 5_000_000


class Chance(NamedTuple):
    """The size of a set beside the same of random sets."""

    expected: float
    p_value: float  # that random sets are at least as alike
    exact: bool


def combine(members: ArrayLike, op: Operation) -> NDArray[np.bool_]:
    """(..., n_items) bool: which items the operation keeps, from which items each set holds, (..., n_sets, n_items) bool.

    `intersection`: those of all sets; `union`: of at least one; `majority`: of more than half; `difference`: of exactly one.
    """
    table = np.asarray(members, dtype=np.bool_)
    return _kept(table.sum(-2), table.shape[-2], op)


def overlap_chance(
    members: ArrayLike, op: Operation, strata: Sequence[float] | Floats | Ints, rng: np.random.Generator
) -> Chance | None:
    """How the size of the combined set compares with that of random sets, from which items each holds, (n_sets, n_items) bool.

    `strata` is (n_items,), the stratum of each item, all equal for none. None where there is nothing to compare: fewer than two
    sets, or strata that leave nothing to chance.
    """
    table, labels = np.asarray(members, dtype=np.bool_), np.asarray(strata)
    if table.ndim != 2 or labels.shape != table.shape[1:]:
        raise GuardError(f"Sets of shape {table.shape} do not fit strata of shape {labels.shape}.")
    _, stratum, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    taken = np.stack([np.bincount(stratum, row, len(sizes)) for row in table]).astype(np.int64)  # (sets, strata)
    if len(table) < 2 or bool(((taken == 0) | (taken == sizes)).all()):
        return None
    size = int(combine(table, op).sum())
    if op in ("intersection", "union"):
        pmf = _exact(taken, sizes, op)
        tail = pmf[: size + 1] if op in LIKE_WHEN_SMALL else pmf[size:]
        return Chance(float(pmf @ np.arange(len(pmf))), float(min(1, tail.sum())), exact=True)
    drawn = _drawn(taken, sizes, op, rng)
    count = (drawn <= size).sum() if op in LIKE_WHEN_SMALL else (drawn >= size).sum()
    return Chance(float(drawn.mean()), float((1 + count) / (1 + len(drawn))), exact=False)


def _kept(counts: NDArray[np.integer], n_sets: int, op: Operation) -> NDArray[np.bool_]:
    if op == "intersection":
        return counts == n_sets
    if op == "union":
        return counts > 0
    return counts * 2 > n_sets if op == "majority" else counts == 1


def _exact(taken: NDArray[np.int64], sizes: NDArray[np.int64], op: Operation) -> Floats:
    """The distribution of the combined size, (n_items + 1,): strata are independent, so their sizes add up."""
    pmf = np.ones(1)
    for column, size in zip(taken.T, sizes.tolist(), strict=True):
        # What is in no set is in the intersection of what they leave out. Adding one more set of k items to an intersection
        # keeps a hypergeometric number of those that were common so far.
        first, *more = (size - column if op == "union" else column).tolist()
        part = np.where(np.arange(size + 1) == first, 1.0, 0.0)
        for k in more:
            part = part @ _step(size, k)
        pmf = np.convolve(pmf, part[::-1] if op == "union" else part)
    return pmf


@lru_cache(maxsize=64)
def _step(n: int, k: int) -> Floats:
    """(n + 1, n + 1): from how many items (row) of n to how many (column) of them also lie in a random set of k."""
    from scipy.stats import hypergeom

    items = np.arange(n + 1)
    return hypergeom.pmf(items[None, :], n, items[:, None], k)


def _drawn(taken: NDArray[np.int64], sizes: NDArray[np.int64], op: Operation, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n_draws,) sizes of the combined set of random sets."""
    n_sets, n = len(taken), int(sizes.sum())
    n_draws = int(np.clip(_N_NUMBERS // (n_sets * n), 999, _N_DRAWS))
    block = max(1, _AT_ONCE // n)
    stratum, starts = np.repeat(np.arange(len(sizes)), sizes), np.cumsum(sizes) - sizes
    place = np.arange(n) - starts[stratum]  # the place of an item within its stratum
    found = []
    for start in range(0, n_draws, block):
        counts = np.zeros((min(block, n_draws - start), n), dtype=np.int64)
        for row in taken:
            # Sorting random numbers within each stratum shuffles its items; the first of them are taken.
            order = np.argsort(rng.random(counts.shape) + 2 * stratum, axis=1)
            np.put_along_axis(counts, kept := order[:, place < row[stratum]], np.take_along_axis(counts, kept, 1) + 1, 1)
        found.append(_kept(counts, n_sets, op).sum(1))
    return np.concatenate(found)
