"""Simulated effects whose truth is known: of each group of examples, of each example, and what all heads share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np


class Drawn(NamedTuple):
    """Effects (n_sites, n_examples), their true means (n_sites,) and the group of each example."""

    deltas: np.ndarray
    means: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Truth:
    """How effects are drawn."""

    n_groups: int  # groups of examples
    sizes: tuple[int, ...] = (4,)  # how many examples they have, in turn
    # of all parts, of mean 0 and variance 1: `normal`, `lognormal` (skewness 1.75), `exponential` (skewness 2), `skewed` and
    # `heavy` (log-normal with skewness 3.3 and 6.2); or `rate`, where an example has the event or not
    shape: str = "normal"
    shared: float = 0.0  # the part of the groups' variance that all heads share, so that two heads correlate by about that
    # the standard deviation of an example's part, where that of a group's is 1. A rate's examples copy their group with a
    # chance of a half.
    of_example: float = 1.0
    # true means by head: a number for all of them, or from a generator and their number
    means: float | Callable[[np.random.Generator, int], np.ndarray] = 0.0

    def draw(self, rng: np.random.Generator, n_sites: int) -> Drawn:
        """One family of heads."""
        groups = np.repeat(np.arange(self.n_groups), np.resize(self.sizes, self.n_groups))
        means = self.means(rng, n_sites) if callable(self.means) else np.full(n_sites, self.means)
        shape = (n_sites, len(groups))
        if self.shape == "rate":
            own, of_group = rng.random(shape), rng.random((n_sites, self.n_groups))[:, groups]
            copies = rng.random((n_sites, self.n_groups))[:, groups] < 0.5
            return Drawn((np.where(copies, of_group, own) < means[:, None]).astype(float), means, groups)
        noise = SHAPES[self.shape]
        of_group = np.sqrt(1 - self.shared) * noise(rng, (n_sites, self.n_groups))
        of_group = of_group + np.sqrt(self.shared) * noise(rng, (1, self.n_groups))
        return Drawn(means[:, None] + of_group[:, groups] + self.of_example * noise(rng, shape), means, groups)


def first(n: int, size: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    """The first `n` heads have an effect of this size and either sign, the others none."""

    def means(rng: np.random.Generator, n_sites: int) -> np.ndarray:
        return np.where(np.arange(n_sites) < n, size * rng.choice([-1.0, 1.0], n_sites), 0.0)

    return means


def small(size: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Every head has an effect, normally distributed with this standard deviation."""
    return lambda rng, n_sites: size * rng.normal(size=n_sites)


def _lognormal(rng: np.random.Generator, shape: tuple[int, ...], spread: float = 0.5) -> Any:
    centred = rng.lognormal(0, spread, shape) - np.exp(spread**2 / 2)
    return centred / np.sqrt((np.exp(spread**2) - 1) * np.exp(spread**2))


SHAPES: "dict[str, Callable[[Any, tuple[int, ...]], Any]]" = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "lognormal": _lognormal,
    "skewed": partial(_lognormal, spread=0.75),
    "heavy": partial(_lognormal, spread=1.0),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
}
