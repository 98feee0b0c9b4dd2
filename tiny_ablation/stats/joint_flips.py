"""Would chance alone make the strongest sites of several conditions so much alike? Sets ranked anew under joint sign flips.

Null hypothesis: no site has an effect in any condition, and how far a group of examples is from that is as likely with the
opposite sign, in all conditions that share the group at once. Sites keep the size of their noise, and conditions what their
noise has in common: both make sets alike, and neither is an invariant.

Reference:
    Canay, Romano & Shaikh 2017, Randomization Tests under an Approximate Symmetry Assumption; Phipson & Smyth 2010, Permutation
    P-values Should Never Be Zero.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tiny_ablation.stats.clusters import Floats


class Flipped(NamedTuple):
    """The size of a set beside what sign flips give."""

    expected: float
    p_value: float


class Condition(NamedTuple):
    """What is flipped: how far each group is from the mean effect, so that real effects do not count as noise."""

    groups: Sequence[Hashable]  # (n_groups,) what each group is called in every condition that has it
    shares: Floats  # (n_sites, n_groups) what it adds to the mean effect of each site
    weights: Floats  # (n_sites, n_groups) its share of the examples

    @property
    def residuals(self) -> Floats:
        """(n_sites, n_groups)."""
        return self.shares - self.shares.sum(1, keepdims=True) * self.weights


def flipped_sizes(
    conditions: Sequence[Condition],
    kept: Callable[[Sequence[Floats]], NDArray[np.bool_]],
    n_flips: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """(n_flips,) the size of the set under each flip.

    `kept` makes of the means of every condition, (n_flips, n_sites) each, the set that is kept, (n_flips, n_sites).
    """
    names = list(dict.fromkeys(group for c in conditions for group in c.groups))
    place = {name: i for i, name in enumerate(names)}
    signs = 1.0 - 2.0 * rng.integers(0, 2, size=(n_flips, len(names)))
    means = [signs[:, [place[group] for group in c.groups]] @ c.residuals.T for c in conditions]
    return kept(means).sum(1)


def overlap_beyond_noise(size: int, flipped: NDArray[np.int64], *, small_is_alike: bool) -> Flipped:
    """How a set's size compares with that under flips.

    `small_is_alike` says that a small set, such as a union, means that conditions are alike.
    """
    as_alike = flipped <= size if small_is_alike else flipped >= size
    return Flipped(float(flipped.mean()), float((1 + as_alike.sum()) / (1 + len(flipped))))
