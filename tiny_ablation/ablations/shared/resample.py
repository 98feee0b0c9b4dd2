"""Resample ablation: another example's value, by derangements that are kept with the run.

A donor has as many tokens as the example it gives to, so that each token has a counterpart; with `positions=last` only the
last tokens meet, and every other example can give.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.ablations.shared.replacements import Patch
from tiny_ablation.config.seeds import generator
from tiny_ablation.engine.prompts import Prompt

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class Resample(Patch):
    """The value of another example; where edits touch the last token alone, earlier ones do not depend on the donor."""

    positions: str = "all"
    name = "resample"

    def tag(self, example: int, position: int) -> Hashable:
        """See `Replacement.tag`."""
        if self.positions == "all":
            return super().tag(example, position)
        return self.sources[example] if position == self.lengths[example] - 1 else None


def without_donor(prompts: Sequence[Prompt], positions: str) -> list[int]:
    """The examples that no other example can give to."""
    return [pool[0] for pool in _pools(prompts, positions) if len(pool) == 1]


def draw_donors(prompts: Sequence[Prompt], positions: str, n_draws: int, seed: int) -> list[list[int]]:
    """For each draw the donor of each example: never itself, and each example gives once; none may be `without_donor`."""
    pools, out = _pools(prompts, positions), []
    for draw in range(n_draws):
        rng, donors = generator(seed, "donors", draw), [-1] * len(prompts)
        for pool in pools:
            for example, place in zip(pool, derangement(len(pool), rng), strict=True):
                donors[example] = pool[place]
        out.append(donors)
    return out


def derangement(n: int, rng: "np.random.Generator") -> list[int]:
    """A permutation of `range(n)` without fixed points, all equally likely; `n` is at least 2."""
    while True:  # about 37 % of all permutations are derangements, and half of those of two
        order = rng.permutation(n).tolist()
        if all(place != i for i, place in enumerate(order)):
            return order


def _pools(prompts: Sequence[Prompt], positions: str) -> list[list[int]]:
    """The examples in pools that exchange values."""
    pools: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        pools.setdefault(len(prompt.ids) if positions == "all" else 0, []).append(index)
    return [pools[key] for key in sorted(pools)]
