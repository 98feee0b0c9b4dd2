"""How many groups of examples resolve an effect of which size, with the family of tests at hand.

Effects are in standard deviations of groups' mean effects (`effect_size.standardised`). Tests are taken as Student's t over
groups of equal size; the bootstrap-t of `means` asks for about a tenth more groups where there are few.

Reference:
    Cohen 1988, Statistical Power Analysis; Benjamini & Hochberg 1995 for the threshold: with r real effects among m, the
    step-up procedure lets p-values pass up to about level / m times the number that is found.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.fdr import LEVEL

POWER = 0.8
_MOST = 100_000
# Rounds until the number that is found and its threshold agree, and how far apart they may stay.
_ROUNDS, _AGREED = 50, 0.01


def power_at(d: float, n_groups: int, threshold: float) -> float:
    """The chance that a two-sided t test over groups gives p <= threshold for an effect of d standard deviations."""
    from scipy.stats import norm, t

    if n_groups < 2:
        return 0.0
    reach, centre = t.isf(threshold / 2, n_groups - 1) * _spreads(n_groups), d * n_groups**0.5
    return float((norm.sf(reach - centre) + norm.cdf(-reach - centre)).mean())


def equivalence_power_at(margin: float, n_groups: int) -> float:
    """The chance that two one-sided tests show an effect of 0 to lie within a margin of so many standard deviations."""
    from scipy.stats import norm, t

    if n_groups < 2:
        return 0.0
    room = margin * n_groups**0.5 - t.isf(LEVEL, n_groups - 1) * _spreads(n_groups)
    return float(np.maximum(0.0, 1 - 2 * norm.sf(room)).mean())


def _spreads(n_groups: int, n: int = 500) -> Floats:
    """Equally likely values of a sample's standard deviation, where the true one is 1; scipy's noncentral t loses digits."""
    from scipy.stats import chi2

    return np.sqrt(chi2.ppf((np.arange(n) + 0.5) / n, n_groups - 1) / (n_groups - 1))


def threshold(family: int, real: int) -> float:
    """The p-value that one of `real` effects among a family must reach, where each of the others is found with `POWER`."""
    return LEVEL * (1 + POWER * (real - 1)) / family


def groups_needed(d: float, family: int, real: int = 1) -> int | None:
    """The least number of groups that finds an effect of d (above 0) standard deviations with `POWER`.

    `family` tests are corrected together at the false discovery rate `LEVEL`, and `real` of them have an effect of this size.
    None where 100,000 groups are too few.
    """
    return _least(lambda n: power_at(d, n, threshold(family, real)) >= POWER)


def groups_for_equivalence(margin: float) -> int | None:
    """The least number of groups that shows an effect of 0 to lie within a margin of so many standard deviations."""
    return _least(lambda n: equivalence_power_at(margin, n) >= POWER)


def resolvable(n_groups: int, family: int, real: int = 1) -> float | None:
    """The smallest effect, in standard deviations, that so many groups find with `POWER`; None with one group."""
    if n_groups < 2:
        return None
    limit, low, high = threshold(family, real), 0.0, 1.0
    while power_at(high, n_groups, limit) < POWER:
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(middle, n_groups, limit) >= POWER else (middle, high)
    return high


def powers_in_family(sizes: Floats, n_groups: int, family: int) -> Floats:
    """(n_sites,) the chance that each of several effects is found, where those that are found let larger p-values pass.

    `sizes` are in standard deviations; the other tests of the family have no effect. The number that is found and the threshold
    that it allows are brought into agreement, from above as the step-up procedure does.
    """
    from scipy.stats import norm, t

    if n_groups < 2:
        return np.zeros(len(sizes))
    spreads, centres = _spreads(n_groups, 50), np.abs(sizes)[:, None] * n_groups**0.5
    found = np.ones(len(sizes))
    for _ in range(_ROUNDS):
        limit = LEVEL * max(1.0, float(found.sum())) / family
        reach = t.isf(limit / 2, n_groups - 1) * spreads
        before, found = found, (norm.sf(reach - centres) + norm.cdf(-reach - centres)).mean(1)
        if before.sum() - found.sum() < _AGREED:
            break
    return found


def groups_needed_by_each(sizes: Floats, n_shown: int, family: int) -> list[int | None]:
    """The least number of groups that finds each of the `n_shown` first effects with `POWER`, as `powers_in_family`.

    `sizes` are of all effects that are known, the largest first. None where 100,000 groups are too few.
    """
    at: dict[int, Floats] = {}

    def enough(site: int, n: int) -> bool:
        if n not in at:
            at[n] = powers_in_family(sizes, n, family)
        return bool(at[n][site] >= POWER)

    return [_least(partial(enough, site)) for site in range(min(n_shown, len(sizes)))]


def _least(enough: Callable[[int], bool]) -> int | None:
    """The least number of groups for which it is enough, by doubling and halving."""
    low, high = 1, 2
    while not enough(high):
        low, high = high, high * 2
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
