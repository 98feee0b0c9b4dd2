"""Do the effects of all components together differ between two conditions?

On the same examples, groups are compared with themselves; on different ones, groups of both are mixed. Two directions of
patching are compared mirrored: what restoring adds against what breaking takes away.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tiny_ablation.config.seeds import generator
from tiny_ablation.stats.ranks import spearman
from tiny_ablation.stats.signflip import profile_pvalue, resolution
from tiny_ablation.stats.two_samples import permutation_pvalue, permutation_resolution
from tiny_ablation.sweep.analysis.declared import ProfilesDiffer
from tiny_ablation.sweep.analysis.examples import Grouped
from tiny_ablation.sweep.analysis.verdict import N_PERM, NotTestable, Place, Source, Verdict, the_place

N_PERMUTATIONS = 9999
OPPOSITE = {"clean_to_corrupt", "corrupt_to_clean"}
# These measure a distance or a loss, which is not turned around when the direction of patching is.
NEVER_NEGATIVE = frozenset({"kl_div", "seq_kl_mean", "acc_flip_rate", "acc_gain_rate", "seq_acc_flip_rate"})
NULL_PAIRED = (
    "on each group of examples the difference of the two profiles is as likely as its opposite (sign flips of whole profiles "
    "by group; sum over components of squared t values)"
)
NULL_UNPAIRED = (
    "the groups of examples of both conditions come from one distribution of profiles (permutations of whole groups; sum over "
    "components of squared t values)"
)


def profiles_differ(claim: ProfilesDiffer, sources: Sequence[Source], metric: str) -> Verdict:
    """A test of equal profiles.

    Raises:
        NotTestable: a condition did not finish, or they have no components in common.
    """
    a, b = (the_place(sources, label) for label in claim.between)
    if a.source is not b.source:
        raise NotTestable(
            f"{a.profile.label} and {b.profile.label} have not measured the same components of one model"
        )
    mean = np.array([place.source.effects.mean(place.profile, metric) for place in (a, b)])
    shared = np.asarray(np.isfinite(mean).all(0))
    if not shared.any():
        raise NotTestable(f"{a.profile.label} and {b.profile.label} have no effect on {metric} in common")
    mirror = _mirrored(a, b, metric) if claim.mirror is None else claim.mirror
    sign = -1.0 if mirror else 1.0
    x, y = a.grouped(metric), b.grouped(metric)
    paired = (x.dataset, x.groups) == (y.dataset, y.groups)
    p, smallest = (_paired if paired else _unpaired)(x, y, sign, shared)
    gap = mean[0] - sign * mean[1]
    most = int(np.nanargmax(np.abs(np.where(shared, gap, np.nan))))
    part = {
        "n_components": int(shared.sum()), "paired": paired, "mirrored": mirror,
        "n_groups": [len(x.groups), len(y.groups)],
        "rank_correlation": spearman(mean[0, shared], sign * mean[1, shared]),
        "largest": a.source.effects.describe(most) | {"difference": float(gap[most])},
    }  # fmt: skip
    what = "mirrored profiles" if mirror else "profiles"
    statement = f"the {what} of {a.profile.label} and {b.profile.label} over {int(shared.sum())} components differ ({metric})"
    return Verdict(statement, NULL_PAIRED if paired else NULL_UNPAIRED, p, smallest, [part])


def _mirrored(a: Place, b: Place, metric: str) -> bool:
    directions = {
        place.source.effects.directions[place.source.effects.direction_index(place.profile)]
        for place in (a, b)
    }
    return directions == OPPOSITE and metric not in NEVER_NEGATIVE


def _paired(x: Grouped, y: Grouped, sign: float, shared: NDArray[np.bool_]) -> tuple[float, float]:
    difference = x.shares[shared] - sign * y.shares[shared]
    rng = generator(0, "sweep", "profiles", x.dataset, *x.groups)
    return profile_pvalue(difference, x.groups, N_PERM, rng), resolution(len(x.groups), N_PERM)


def _unpaired(x: Grouped, y: Grouped, sign: float, shared: NDArray[np.bool_]) -> tuple[float, float]:
    """Groups count by their share of their condition's examples, times how many groups it has."""
    n_x, n_y = len(x.groups), len(y.groups)
    sums = n_x * x.shares[shared], sign * n_y * y.shares[shared]
    sizes = n_x * x.weights[shared], n_y * y.weights[shared]
    rng = generator(0, "sweep", "profiles", x.dataset, y.dataset, *x.groups, *y.groups)
    p = permutation_pvalue(*sums, *sizes, n_perm=N_PERMUTATIONS, rng=rng)
    return p, permutation_resolution(n_x, n_y, N_PERMUTATIONS)
