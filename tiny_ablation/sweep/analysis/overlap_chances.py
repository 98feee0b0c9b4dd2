"""The size of the combined top sets of several conditions, beside what chance alone would give."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tiny_ablation.config.seeds import generator
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.fdr import LEVEL
from tiny_ablation.stats.joint_flips import Condition, flipped_sizes, overlap_beyond_noise
from tiny_ablation.stats.overlap import LIKE_WHEN_SMALL, Chance, combine, overlap_chance
from tiny_ablation.sweep.analysis.effect_sign import strength
from tiny_ablation.sweep.analysis.top_sets import Members, strongest

if TYPE_CHECKING:
    from tiny_ablation.sweep.analysis.invariants import InvariantSet

_FLIPPED_NUMBERS = 2_000_000
BY_FLIPS = (
    "no component has an effect in any condition; the noise that conditions have in common, and its size at each component, "
    "stay (joint sign flips of groups of examples)"
)
UNIFORM = "each condition's set is drawn at random from all components, independently of the others"
BY_LAYER = "as above, but with as many components of each layer as the condition's own set has"


def chances(invariant: "InvariantSet") -> list[dict[str, Any]]:
    """The size of the combined top sets beside what chance gives, under each null."""
    members, layers = invariant.members[:, invariant.shared], invariant.grid.strata[invariant.shared]
    nulls = [(UNIFORM, np.zeros_like(layers)), (BY_LAYER, layers)]
    out = _of_flips(invariant)
    for null, strata in nulls:
        label = ("sweep", "chance", invariant.grid.table, invariant.grid.model, invariant.metric, null)
        found = overlap_chance(members, invariant.cfg.op.value, strata, generator(0, *label))
        if found:
            out.append(_told(invariant, null, found))
    return out


def _of_flips(invariant: "InvariantSet") -> list[dict[str, Any]]:
    """The size of the combined top sets under joint sign flips; nothing where groups or conditions are too few."""
    there = [g for g in invariant.grouped if g is not None]
    if len(there) < max(2, len(invariant.profiles)) or any(len(g.groups) < 2 for g in there):
        return []
    conditions = [Condition(g.names, np.nan_to_num(g.shares), np.nan_to_num(g.weights)) for g in there]
    n_flips = int(np.clip(_FLIPPED_NUMBERS // len(invariant.shared), 199, 999))
    label = ("sweep", "flips", invariant.grid.table, invariant.grid.model, invariant.metric)
    sizes = flipped_sizes(conditions, partial(_combined, invariant), n_flips, generator(0, *label))
    small = invariant.cfg.op.value in LIKE_WHEN_SMALL
    found = overlap_beyond_noise(int(invariant.overlap.sum()), sizes, small_is_alike=small)
    return [_told(invariant, BY_FLIPS, Chance(found.expected, found.p_value, exact=False))]


def _combined(invariant: "InvariantSet", means: Sequence[Floats]) -> Members:
    """(n_flips, n_sites) the combined top sets of these effects, with as many members as the conditions' own."""
    tops = []
    for i, mean in enumerate(means):
        score = strength(mean, invariant.metric, invariant.cfg.direction)
        tops.append(strongest(np.where(invariant.candidates[i], score, -np.inf), invariant.count(i)))
    return combine(np.swapaxes(np.array(tops), 0, 1), invariant.cfg.op.value)


def _told(invariant: "InvariantSet", null: str, found: Chance) -> dict[str, Any]:
    small = invariant.cfg.op.value in LIKE_WHEN_SMALL
    return {
        "null": null,
        "expected": found.expected,
        "p_value": found.p_value,
        "alike_when": "as small or smaller" if small else "as large or larger",
        "method": "exact" if found.exact else "random draws",
        "beyond_chance": found.p_value <= LEVEL,
    }
