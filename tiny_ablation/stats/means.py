"""The mean effect of each site with its interval and its test, by a rule that looks at the groups and never at the effect.

* Fewer than five groups: cluster-robust Student t (`cluster_t`).
* Groups so unequal that Satterthwaite's degrees of freedom fall below six tenths of the number of groups less one: the
  restricted wild cluster bootstrap (`wild`), which alone holds where one group is most of the examples.
* Otherwise: bootstrap-t over groups (`bootstrap_t`), which alone holds where effects are skewed.

Null hypothesis of the test: the mean effect is 0, whatever the shape of its distribution. The bootstrap-t's p-value is the
larger of two: the share of draws that lie beyond the observed t on its side, doubled; and Student's t, stretched so that it
meets the bootstrap at the ends of the interval and never lighter than t itself. The wild bootstrap's is the share of draws at
least as far from 0. So p <= 1 - confidence only where the interval excludes 0. Sites whose p-value could still matter to
their family get more draws, the others do not.

`tiny-ablate selfcheck --only statistics` measures the coverage of intervals and the level of tests; the results are in
docs/metrics-and-statistics.md.

Reference:
    Besag & Clifford 1991, Sequential Monte Carlo p-values (more draws where they matter); and as in the two modules.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.bootstrap_t import SITES_AT_ONCE, Studentised, resample_groups
from tiny_ablation.stats.cluster_t import cluster_t, degrees_of_freedom, group_shares
from tiny_ablation.stats.clusters import Floats, Ints
from tiny_ablation.stats.wild import Wild, as_far, webb_weights

NULL = "the mean effect over groups of examples is 0"
BY_BOOTSTRAP = f"{NULL} (bootstrap-t over groups)"
BY_STUDENT = f"{NULL} (cluster-robust Student t: fewer than five groups)"
BY_WILD = f"{NULL} (restricted wild cluster bootstrap: some groups are much larger than others)"

# Below this there are so few distinct draws that the quantiles of t are mostly chance.
MIN_GROUPS = 5
# Groups are called unequal where degrees of freedom fall below this part of what equal groups have.
EQUAL_ENOUGH = 0.6
# Draws beyond the observed t after which more would not change a p-value's first digit.
_ENOUGH = 30
# P-values reach this part of the step that a family asks for; a tenth of that where it costs no more random numbers than this.
_BELOW_STEP, _CHEAP = 1.5, 10_000_000
_BLOCK = 2_000_000  # numbers in one array of draws


class Means(NamedTuple):
    """The mean of each site, its interval and its two-sided p-value, each (n_sites,); NaN where it cannot be estimated."""

    mean: Floats
    low: Floats
    high: Floats
    p: Floats


def null_of(sums: Floats, sizes: Floats) -> str:
    """The null hypothesis and the test that the rule chooses for these groups, in words; see the module."""
    shares = group_shares(sums, sizes)
    n_groups = (shares > 0).sum(1)
    if not (n_groups >= MIN_GROUPS).all():
        return BY_STUDENT
    equal = degrees_of_freedom(shares) >= EQUAL_ENOUGH * (n_groups - 1)
    return BY_BOOTSTRAP if equal.all() else BY_WILD


def by_bootstrap(sums: Floats, sizes: Floats) -> bool:
    """Whether the rule chooses bootstrap-t for these groups."""
    return null_of(sums, sizes) == BY_BOOTSTRAP


def cluster_means(
    sums: Floats,
    sizes: Floats,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    n_boot: int = 2000,
    step: float | None = None,
    n_draws: int | None = None,
) -> Means:
    """The mean over examples of every site, its interval and its p-value.

    `step` is the p-value that a lone discovery of the family needs (`fdr.first_step`), for which as many draws are made as it
    takes; without it p-values are as fine as the `n_boot` draws for the intervals (1000 or more) make them. `n_draws` is the
    number of draws for the p-values of all sites, in place of as many as they need. All sites share the draws.

    With one group there is a mean and nothing else. A site without any spread has an interval of zero width and the p-value of
    a sign test.

    Raises:
        GuardError: the confidence or the number of draws is impossible.
    """
    if not 0 < confidence < 1 or n_boot < 1:
        raise GuardError(f"No interval has confidence {confidence} from {n_boot} draws.")
    null = null_of(sums, sizes)
    if null == BY_STUDENT:
        found = _by_student(sums, sizes, confidence)
    else:
        method = _by_bootstrap if null == BY_BOOTSTRAP else _by_wild
        refine = partial(_refined, n_boot, rng, step, n_draws)
        found = method(sums, sizes, rng, confidence, n_boot, refine)
    return found._replace(p=_without_spread(sums, sizes, found))


def _by_student(sums: Floats, sizes: Floats, confidence: float) -> Means:
    from scipy.stats import t

    mean, error, freedom = cluster_t(sums, sizes)
    half = t.ppf((1 + confidence) / 2, freedom) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * t.sf(np.abs(mean) / error, freedom)
    return Means(mean, mean - half, mean + half, p)


def _by_bootstrap(
    sums: Floats, sizes: Floats, rng: np.random.Generator, confidence: float, n_boot: int, refine: Callable[..., Floats]
) -> Means:
    from scipy.stats import t as student

    sample = Studentised.of(sums, sizes)
    observed = sample.t
    freedom = degrees_of_freedom(group_shares(sums, sizes))
    usual = float(student.ppf((1 + confidence) / 2, sums.shape[1] - 1))
    tails, beyond = np.empty((2, len(sums))), np.empty(len(sums))
    for block, t in sample.draws(resample_groups(sums.shape[1], n_boot, rng)):
        tails[:, block] = _quantiles(t, confidence, usual)
        beyond[block] = _beyond(t, observed[block])
    mean, error = sample.mean, sample.error
    own_side = np.where(observed < 0, -tails[0], tails[1])
    stretch = np.maximum(1.0, own_side / usual)
    drawn = refine(sample, resample_groups, _beyond, beyond)
    p = np.maximum(np.minimum(1.0, 2 * drawn), 2 * student.sf(np.abs(observed) / stretch, freedom))
    return Means(mean, mean - tails[1] * error, mean - tails[0] * error, p)


def _by_wild(
    sums: Floats, sizes: Floats, rng: np.random.Generator, confidence: float, n_boot: int, refine: Callable[..., Floats]
) -> Means:
    sample = Wild.of(sums, sizes)
    weights = webb_weights(sums.shape[1], n_boot, rng)
    low, high, beyond = sample.interval(weights, confidence)
    p = refine(sample, webb_weights, as_far, beyond)
    holds_zero = (low <= 0) & (high >= 0)  # draws beyond those of the interval may say otherwise by a hair
    return Means(sample.mean, low, high, np.where(holds_zero, np.maximum(p, np.nextafter(1 - confidence, 1)), p))


def _quantiles(t: Floats, confidence: float, usual: float) -> Floats:
    """The lower and upper end (2, n_sites) of the middle of the draws; Student's where too many draws have no spread."""
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        found = np.quantile(t, [tail, 1 - tail], axis=0, method="weibull")
    usable = np.isfinite(found).all(0)
    return np.where(usable, found, np.array([[-usual], [usual]]))


def _beyond(t: Floats, observed: Floats) -> Ints:
    """(n_sites,) how many draws are as far from 0 as the observed t, on its side."""
    return (np.where(observed < 0, -1.0, 1.0) * t >= np.abs(observed)).sum(0)


def _refined(
    n_boot: int,
    rng: np.random.Generator,
    step: float | None,
    n_draws: int | None,
    sample: Studentised | Wild,
    draw: Callable[[int, int, np.random.Generator], Floats],
    count: Callable[[Floats, Floats], Ints],
    beyond: Floats | Ints,
) -> Floats:
    """(n_sites,) the share of draws that count as beyond the observed t, from more draws where that share is small.

    With k sites left, the step-up procedure asks them for p-values of about k steps, so the fewer are left, the finer theirs
    become: draws times sites stay about the same.
    """
    counts, n = beyond.astype(np.float64), np.full(len(beyond), float(n_boot))
    observed, n_groups = sample.t, sample.n_groups
    while step is not None or n_draws is not None:
        left = np.flatnonzero(((counts < _ENOUGH) | (n_draws is not None)) & np.isfinite(observed))
        done = int(n[left].max(initial=0))
        more = (n_draws or _draws_needed(step or 1.0, len(left), n_groups)) - done
        if not len(left) or more <= 0:
            break
        more = min(more, _BLOCK // max(n_groups, min(len(left), SITES_AT_ONCE)) + 1)
        for block, t in sample.at(left).draws(draw(n_groups, more, rng)):
            counts[left[block]] += count(t, observed[left[block]])
        n[left] += more
    return (1 + counts) / (1 + n)


def _draws_needed(step: float, n_left: int, n_groups: int) -> int:
    """How many draws bring two-sided p-values below the step of so many sites; ten times as many where that is cheap."""
    needed = _BELOW_STEP * 2 / (step * max(1, n_left))
    return int(max(needed, min(10 * needed, _CHEAP // n_groups)))


def _without_spread(sums: Floats, sizes: Floats, found: Means) -> Floats:
    """(n_sites,) the p-values, where sites without spread get that of a sign test: all groups on one side of 0."""
    flat = (found.low == found.high) | (sums == 0).all(1)
    n_groups = (np.broadcast_to(sizes, sums.shape) > 0).sum(1)
    sign_test = np.where(found.mean == 0, 1.0, 2.0 ** (1.0 - n_groups))
    return np.where(flat & (n_groups > 1), sign_test, found.p)
