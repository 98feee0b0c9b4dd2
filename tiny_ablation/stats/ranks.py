"""How alike are rankings of sites?"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.clusters import Floats


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two (n,) arrays; NaN when one is constant or n < 2."""
    from scipy.stats import spearmanr

    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise GuardError(f"Rank correlation needs two lists of one length, not {x.shape} and {y.shape}.")
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.asarray(spearmanr(x, y))[0])


def rank_biased_overlap(a: Sequence[Hashable], b: Sequence[Hashable], p: float = 0.9) -> float:
    """The extrapolated rank-biased overlap of two rankings of distinct items, best first.

    1 for equal rankings, 0 for rankings without a common item; `p` in (0, 1) is the weight of depth: the first `1 / (1 - p)`
    ranks hold most of it.

    Raises:
        GuardError: the rankings are empty, of different lengths, or repeat an item.

    Reference:
        Webber, Moffat & Zobel 2010, A Similarity Measure for Indefinite Rankings, eq. 23.
    """
    depth = len(a)
    if not depth or len(b) != depth or len(set(a)) != depth or len(set(b)) != depth or not 0 < p < 1:
        raise GuardError("Rank-biased overlap needs two rankings of one length, no repeats, and 0 < p < 1.")
    agreement = [len(set(a[:d]) & set(b[:d])) / d for d in range(1, depth + 1)]
    prefix = sum(share * p**d for d, share in enumerate(agreement, start=1))
    return agreement[-1] * p**depth + (1 - p) / p * prefix


def rank_biased_overlaps(scores: ArrayLike, p: float = 0.9) -> Floats:
    """(n_judges, n_judges) `rank_biased_overlap` of every two judges, from their scores (n_judges, n_items), finite.

    Higher is better, and the first of equal ones is ranked first.
    An item counts as agreed on from the deeper of its two ranks on, so the sum over depths is a sum over items.
    """
    table = np.asarray(scores, dtype=np.float64)
    n_items = table.shape[1]
    depth = np.arange(1, n_items + 1)
    # From which depth on an item counts, and what it adds from there to the last.
    adds = (1 - p) / p * np.cumsum((p**depth / depth)[::-1])[::-1] + p**n_items / n_items
    ranks = np.argsort(np.argsort(-table, axis=1, kind="stable"), axis=1, kind="stable")
    return np.array([adds[np.maximum(own, ranks)].sum(1) for own in ranks])


def kendalls_w(scores: ArrayLike) -> float:
    """Kendall's coefficient of concordance with the correction for ties, from finite scores (n_judges, n_items).

    1 when all judges rank alike; NaN for fewer than two judges or items, or when all tie everything.
    """
    from scipy.stats import rankdata

    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise GuardError("Kendall's W needs a table (judges, items) of finite numbers.")
    n_judges, n_items = table.shape
    if n_judges < 2 or n_items < 2:
        return float("nan")
    ranks = rankdata(table, axis=1)
    tied = np.concatenate([np.unique(row, return_counts=True)[1] for row in ranks])
    ties = float((tied**3 - tied).sum())
    most = n_judges**2 * (n_items**3 - n_items) - n_judges * ties
    deviation = float(((ranks.sum(0) - ranks.sum(0).mean()) ** 2).sum())
    return 12 * deviation / most if most > 0 else float("nan")


def auroc(above: Sequence[float], below: Sequence[float]) -> float:
    """The chance that one of the first is larger than one of the second; ties count half (Mann & Whitney 1947)."""
    pairs = [(a, b) for a in above for b in below]
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
