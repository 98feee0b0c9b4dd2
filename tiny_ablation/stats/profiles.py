"""Do two profiles of mean effects over sites differ at all, on the same groups of examples or on different ones?

Null hypothesis: at every site the two means are equal; shapes, variances and numbers of groups may differ. The statistic is the
largest |t| over sites, compared with its distribution under draws of whole groups from samples that are centred at their own
means. A draw takes a group with its whole profile, so sites may depend on each other in any way.

Reference:
    Romano & Wolf 2005, Exact and Approximate Stepdown Methods for Multiple Hypothesis Testing (studentised and centred
    bootstrap of a maximum); Welch 1947 for the error of two samples.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from tiny_ablation.stats.bootstrap_t import SITES_AT_ONCE, Studentised, resample_groups, studentised
from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.clusters import Floats

N_DRAWS = 9999
# Draws without spread in either sample cannot be told from infinitely clear ones; with so few groups there are too many.
MIN_GROUPS = 5


def paired_profiles(differences: Floats, weights: Floats, rng: np.random.Generator, n_draws: int = N_DRAWS) -> float:
    """The p-value that two profiles on the same groups differ; 1 where they are equal in every group.

    Both arguments are (n_sites, n_groups): what each group adds to the difference of the two means, and the share of the
    examples that it has. NaN with fewer than five groups.
    """
    if differences.shape[1] < MIN_GROUPS:
        return float("nan")
    sample = Studentised.of(differences, weights)
    draws = resample_groups(differences.shape[1], n_draws, rng)
    return _largest(sample.t, (t for _, t in sample.draws(draws)), n_draws)


def unpaired_profiles(
    a: tuple[Floats, Floats], b: tuple[Floats, Floats], rng: np.random.Generator, n_draws: int = N_DRAWS
) -> float:
    """The p-value that two profiles on different groups differ.

    A sample is what each group adds to the mean of every site, and its share of the examples, both (n_sites, n_groups). NaN
    where either has fewer than five groups.
    """
    if min(a[0].shape[1], b[0].shape[1]) < MIN_GROUPS:
        return float("nan")
    x, y = Studentised.of(*a), Studentised.of(*b)
    draws = [resample_groups(each[0].shape[1], n_draws, rng) for each in (a, b)]
    observed = studentised(x.mean - y.mean, np.hypot(x.error, y.error))

    def drawn() -> Iterator[Floats]:  # (n_draws, n_sites of a block)
        for start in range(0, len(x.mean), SITES_AT_ONCE):
            block = slice(start, start + SITES_AT_ONCE)
            (shift_x, spread_x), (shift_y, spread_y) = (s.drawn(w, block) for s, w in zip((x, y), draws, strict=True))
            yield studentised(shift_x - shift_y, np.hypot(spread_x, spread_y))

    return _largest(observed, drawn(), n_draws)


def difference_pvalue(
    a: tuple[Floats, Floats], b: tuple[Floats, Floats] | None, rng: np.random.Generator, n_draws: int = N_DRAWS
) -> float:
    """The two-sided p-value that one mean differs from another, or from 0: the larger of the bootstrap's and Student's.

    Samples are as in `unpaired_profiles`, with one site; without `b`, `a` holds differences, to be compared with 0. NaN with
    fewer than two groups in a sample.
    """
    from scipy.stats import t

    found = [cluster_t(*each) for each in (a, b) if each is not None]
    variances = [each.error[0] ** 2 for each in found]
    total = sum(variances)
    if not total > 0:
        return float("nan")
    shift = found[0].mean[0] - (found[1].mean[0] if b else 0.0)
    freedom = total**2 / sum(v**2 / each.freedom[0] for v, each in zip(variances, found, strict=True) if v)
    by_student = float(2 * t.sf(abs(shift) / total**0.5, freedom))
    drawn = paired_profiles(*a, rng, n_draws) if b is None else unpaired_profiles(a, b, rng, n_draws)
    return by_student if np.isnan(drawn) else max(by_student, drawn)


def _largest(observed: Floats, drawn: Iterable[Floats], n_draws: int) -> float:
    largest = np.zeros(n_draws)
    for t in drawn:
        largest = np.maximum(largest, np.abs(t).max(1))
    least = np.abs(observed).max()
    return float((1 + (largest >= least).sum()) / (1 + n_draws)) if least else 1.0
