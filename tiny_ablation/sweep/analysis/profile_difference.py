"""Do the effects of all components together differ between two conditions?

On the same examples, groups are compared with themselves; on different ones, both are drawn anew. Two directions of
patching are compared mirrored: what restoring adds against what breaking takes away.
"""

from collections.abc import Sequence

import numpy as np

from tiny_ablation.config.seeds import generator
from tiny_ablation.run.site_statistics import no_test_of
from tiny_ablation.stats.profiles import MIN_GROUPS, N_DRAWS, paired_profiles, unpaired_profiles
from tiny_ablation.stats.ranks import spearman
from tiny_ablation.sweep.analysis.declared import ProfilesDiffer
from tiny_ablation.sweep.analysis.verdict import MeasuredGrid, NotTestable, Verdict, the_place

NULL = (
    "at every component the mean effects are equal; shapes, variances and numbers of groups may differ (largest |t| over "
    "components, bootstrap of centred groups)"
)


def profiles_differ(claim: ProfilesDiffer, sources: Sequence[MeasuredGrid], metric: str) -> Verdict:
    """A test of equal profiles.

    Raises:
        NotTestable: a condition did not finish, or they have no components in common.
    """
    a, b = (the_place(sources, label) for label in claim.between)
    if a.source is not b.source:
        raise NotTestable(f"{a.profile.label} and {b.profile.label} have not measured the same components of one model")
    grid = a.source.effects
    mean = np.array([grid.mean(place.profile, metric) for place in (a, b)])
    shared = np.asarray(np.isfinite(mean).all(0))
    if not shared.any():
        raise NotTestable(f"{a.profile.label} and {b.profile.label} have no effect on {metric} in common")
    mirror = claim.mirror
    if mirror is None:  # a distance or a loss is not turned around when the direction of patching is
        way, other = (grid.directions[grid.direction_index(place.profile)].partition("_to_") for place in (a, b))
        mirror = bool(way[1]) and way == other[::-1] and no_test_of(metric) is None
    sign = -1.0 if mirror else 1.0
    x, y = a.grouped(metric), b.grouped(metric)
    paired = (x.dataset, x.groups) == (y.dataset, y.groups)
    first, second = (x.shares[shared], x.weights[shared]), (sign * y.shares[shared], y.weights[shared])
    if paired:
        p = paired_profiles(first[0] - second[0], (first[1] + second[1]) / 2, x.rng("profiles"))
    else:
        rng = generator(0, "sweep", "profiles", x.dataset, y.dataset, *x.groups, *y.groups)
        p = unpaired_profiles(first, second, rng)
    if np.isnan(p):
        raise NotTestable(f"{a.profile.label} or {b.profile.label} has fewer than {MIN_GROUPS} groups of examples")
    gap = mean[0] - sign * mean[1]
    most = int(np.nanargmax(np.abs(np.where(shared, gap, np.nan))))
    part = {
        "n_components": int(shared.sum()),
        "paired": paired,
        "mirrored": mirror,
        "n_groups": [len(x.groups), len(y.groups)],
        "rank_correlation": spearman(mean[0, shared], sign * mean[1, shared]),
        "largest": grid.describe(most) | {"difference": float(gap[most])},
    }
    what = "mirrored profiles" if mirror else "profiles"
    statement = f"the {what} of {a.profile.label} and {b.profile.label} over {int(shared.sum())} components differ ({metric})"
    return Verdict(statement, NULL, p, 1 / (1 + N_DRAWS), [part])
