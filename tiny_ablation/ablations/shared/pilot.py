"""Gradient estimates that are corrected where they are wrong, by exact effects on a few examples.

Some heads write into saturated attention or change much of what follows, which no first-order estimate sees: on one behaviour
of the default model two of the three strongest heads rank beyond the hundredth by gradient. So in three rounds ever fewer sites
are measured on ever more examples. How much estimates missed, beyond what so few examples vary, is the error of estimates in a
layer; the next round takes the sites that could be largest. In the end a measured site counts with its estimate and that part
of what this missed which is not chance.

docs/performance.md says how many of the strongest sites it finds on each behaviour of the default model.

References: Karnin et al. 2013, Almost Optimal Exploration in Multi-Armed Bandits (rounds of fewer and fewer); Auer 2002, Using
Confidence Bounds for Exploitation-Exploration Trade-offs (what could be largest); Efron & Morris 1975, Data Analysis Using
Stein's Estimator (the part that is not chance).
"""

from collections.abc import Callable

import numpy as np

from tiny_ablation.stats.clusters import Floats, Ints

# Of each round: sites for each that is kept in the end, and the share of the examples that they are measured on so far.
ROUNDS = ((8, 1 / 32), (4, 1 / 16), (2, 1 / 8))
# A site could be larger than it looks by so many of its errors, fewer after the last round; errors are
# averaged over about this many layers on either side.
_COULD_BE, _IN_THE_END, _LAYERS = 1.5, 0.75, 0.5
_LEAST = 0.2  # of what was missed is never called chance


def corrected(
    estimates: Floats, layers: Ints, n_kept: int, measure: Callable[[list[int], list[int]], Floats]
) -> tuple[Floats, list[int], Ints]:
    """Estimates after some sites were measured on some examples.

    Args:
        estimates: (n_sites, n_examples).
        layers: (n_sites,) the layer of each.
        n_kept: how many of the strongest are wanted.
        measure: gives the exact effects of some sites on some examples, (n, n_examples given).

    Returns:
        (n_sites,) the estimates, corrected where a site was measured; all sites, from the one that could be largest; and
        (n_sites,) on how many examples each was measured.
    """
    n_sites, n_examples = estimates.shape
    counts = [min(n_examples, max(2**i, round(share * n_examples))) for i, (_, share) in enumerate(ROUNDS)]
    # Typical examples: the middle ones of equal parts by the size of all estimates, inner parts first.
    parts = np.array_split(np.argsort(np.abs(estimates).sum(0), kind="stable"), max(counts))
    inner_first = sorted(enumerate(parts), key=lambda at: abs(2 * at[0] - len(parts) + 1))
    examples = [int(part[len(part) // 2]) for _, part in inner_first]
    missed = np.full((n_sites, len(examples)), np.nan)
    plain = estimates.mean(1)
    values, error = plain.copy(), np.zeros_like(plain)
    for (times, _), count in zip(ROUNDS, counts, strict=True):
        could_be = np.abs(values) + _COULD_BE * np.sqrt(error)
        sites = np.argsort(-could_be, kind="stable")[: times * n_kept]
        lacks = np.isnan(missed[sites, :count]).sum(1)
        for n in sorted({*lacks.tolist()} - {0}):  # sites that lack as many examples are measured together
            new, at = sites[lacks == n].tolist(), examples[count - n : count]
            missed[new, count - n : count] = measure(new, at) - estimates[np.ix_(new, at)]
        part, error = _learned(missed, layers)
        seen = ~np.isnan(missed[:, 0])
        values[seen] = plain[seen] + part[seen] * np.nanmean(missed[seen], axis=1)
    bound = np.abs(values) + _IN_THE_END * np.sqrt(error)
    return values, np.argsort(-bound, kind="stable").tolist(), (~np.isnan(missed)).sum(1)


def _learned(missed: Floats, layers: Ints) -> tuple[Floats, Floats]:
    """For every site, the part of what was missed that is not chance, and the variance of its value after correction.

    Sites lend each other what they know, most within a layer, and all together count as one site more everywhere.

    Args:
        missed: (n_sites, n_examples), NaN where nothing was measured.
        layers: (n_sites,).
    """
    n = (~np.isnan(missed)).sum(1)
    seen, several = np.flatnonzero(n), np.flatnonzero(n > 1)
    weights = np.exp(-0.5 * ((layers[:, None] - layers) / _LAYERS) ** 2)
    nearby = lambda x, at: (weights[:, at] @ x + x.mean()) / (weights[:, at].sum(1) + 1)  # noqa: E731
    total = nearby(np.nanmean(missed[seen], axis=1) ** 2, seen)
    # Of one example nothing is known of how examples differ: half of what was missed is taken for chance.
    own = np.nanvar(missed[several], axis=1, ddof=1)
    spread = nearby(own, several) if len(several) else total / 2
    spread[several] = (spread[several] + own) / 2
    chance = np.where(n > 0, spread / np.maximum(n, 1), 0.0)
    error = np.maximum(total - nearby(chance[seen], seen), _LEAST * total)
    part = np.where(n > 0, error / (error + chance + np.finfo(float).tiny), 0.0)
    return part, np.where(n > 0, part * chance, error)
