"""The restricted wild cluster bootstrap of a mean: sums of groups get random weights under the null hypothesis.

Under the null hypothesis that the mean is mu, a group's sum less mu times its size is as likely positive as negative. So the
weights change its sign and size, and t is computed anew from all groups. The interval holds each mu that the test does not
reject. Both hold their level where one group is most of the examples and varies more or less than the others: Student's t
with CR2 covers too often there (.99 with 200 groups), and variances pooled over groups not often enough (.68).
Memory is about `8 * n_draws * (n_groups + 8 * n_sites)` bytes, with at most 500 sites at once.

Reference:
    Cameron, Gelbach & Miller 2008, Bootstrap-Based Improvements for Inference with Clustered Errors; MacKinnon & Webb 2017,
    Wild Bootstrap Inference for Wildly Different Cluster Sizes; the six weights of Webb 2014, Reworking Wild Bootstrap Based
    Inference for Clustered Errors.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiny_ablation.stats.bootstrap_t import SITES_AT_ONCE, studentised
from tiny_ablation.stats.clusters import Floats, Ints

# An error this small beside the mean is that of equal groups, up to rounding.
_NO_SPREAD = 1e-12
_WEBB = np.sqrt([1.5, 1.0, 0.5])
# Draws that repeat the sample with one weight for all groups have its t, up to rounding.
_TIE = 1 - 1e-9
# Ends of intervals are found to a millionth of the interval's width; none further out than this many errors is looked for.
_STEPS, _DOUBLINGS = 20, 12


def webb_weights(n_groups: int, n_draws: int, rng: np.random.Generator) -> Floats:
    """(n_draws, n_groups): plus or minus the root of 1/2, 1 or 3/2, each as likely."""
    return rng.choice(np.concatenate([-_WEBB, _WEBB]), size=(n_draws, n_groups))


@dataclass(frozen=True)
class Wild:
    """The mean of each site, ready to be drawn anew under any null hypothesis."""

    sums: Floats  # (n_sites, n_groups), each group's sum over the number of all examples
    shares: Floats  # (n_sites, n_groups), each group's share of the examples
    mean: Floats  # (n_sites,)
    error: Floats  # (n_sites,), the cluster-robust standard error without a correction for few groups

    @classmethod
    def of(cls, sums: Floats, sizes: Floats) -> "Wild":
        """From sums (n_sites, n_groups) and sizes (n_groups,) or (n_sites, n_groups); two groups or more."""
        below = np.broadcast_to(np.asarray(sizes, dtype=np.float64), sums.shape)
        total = below.sum(1, keepdims=True)
        share, of_all = below / total, sums / total
        mean = of_all.sum(1)
        error = np.sqrt(((of_all - mean[:, None] * share) ** 2).sum(1))
        return cls(of_all, share, mean, np.where(error <= _NO_SPREAD * np.abs(mean), 0.0, error))

    def at(self, sites: NDArray[np.int64] | slice) -> "Wild":
        """Some of the sites, in this order."""
        return Wild(self.sums[sites], self.shares[sites], self.mean[sites], self.error[sites])

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return self.shares.shape[1]

    @property
    def t(self) -> Floats:
        """(n_sites,) the observed t: of the mean against 0."""
        return studentised(self.mean, self.error)

    def draws(self, weights: Floats) -> Iterator[tuple[slice, Floats]]:
        """Blocks of sites, and their t (n_draws, n_sites of the block) with a true mean of 0 under these weights."""
        for block in self._blocks():
            yield block, _Draws.of(self.at(block), weights).t(np.zeros(1))

    def interval(self, weights: Floats, confidence: float) -> tuple[Floats, Floats, Ints]:
        """What these weights (n_draws, n_groups) say of each site (n_sites,).

        The least and the largest true mean that is not rejected, and how many draws are as far from 0 as the observed t where
        the true mean is 0.
        """
        (low, high), beyond = np.empty((2, len(self.mean))), np.empty(len(self.mean), dtype=np.int64)
        for block in self._blocks():
            part = self.at(block)
            drawn = _Draws.of(part, weights)
            beyond[block] = as_far(drawn.t(np.zeros(1)), part.t)
            low[block], high[block] = (_end(part, drawn, side, 1 - confidence) for side in (-1.0, 1.0))
        return low, high, beyond

    def _blocks(self) -> Iterator[slice]:
        return (slice(start, start + SITES_AT_ONCE) for start in range(0, len(self.mean), SITES_AT_ONCE))


@dataclass(frozen=True)
class _Draws:
    """The draws' means and errors as polynomials in the true mean, each (n_draws, n_sites)."""

    mean: tuple[Floats, Floats]  # constant and slope
    squares: tuple[Floats, Floats, Floats]  # of the weighted sums
    products: tuple[Floats, Floats]  # of the weighted sums and the shares
    shares: Floats  # (n_sites,), squared and summed

    @classmethod
    def of(cls, sample: Wild, weights: Floats) -> "_Draws":
        sums, shares, squared = sample.sums, sample.shares, weights**2
        return cls(
            (weights @ sums.T, weights @ shares.T),
            (squared @ (sums**2).T, squared @ (sums * shares).T, squared @ (shares**2).T),
            (weights @ (sums * shares).T, weights @ (shares**2).T),
            (shares**2).sum(1),
        )

    def t(self, true: Floats) -> Floats:
        """(n_draws, n_sites): the t of each draw where the true means are these, (n_sites,) or one for all."""
        mean = self.mean[0] - true * self.mean[1]
        squares = self.squares[0] - true * (2 * self.squares[1] - true * self.squares[2])
        squares += mean * (mean * self.shares - 2 * (self.products[0] - true * self.products[1]))
        return studentised(mean, np.sqrt(np.maximum(squares, 0)))


def _end(sample: Wild, draws: _Draws, side: float, level: float) -> Floats:
    """(n_sites,) how far the interval reaches below (-1) or above (1) the mean; infinite where no mean is rejected."""

    def kept(distance: Floats) -> NDArray[np.bool_]:
        observed = studentised(distance, sample.error)
        t = draws.t(sample.mean + side * distance)
        return (1 + as_far(t, observed)) / (1 + len(t)) > level

    inside, outside = np.zeros_like(sample.mean), 2 * sample.error
    for _ in range(_DOUBLINGS):
        beyond = kept(outside)
        if not beyond.any():
            break
        inside, outside = np.where(beyond, outside, inside), np.where(beyond, 2 * outside, outside)
    unbounded = kept(outside)
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        beyond = kept(middle)
        inside, outside = np.where(beyond, middle, inside), np.where(beyond, outside, middle)
    return sample.mean + side * np.where(unbounded & (sample.error > 0), np.inf, outside)


def as_far(t: Floats, observed: Floats) -> Ints:
    """(n_sites,): how many draws (n_draws, n_sites) are at least as far from 0 as the observed t, on either side."""
    return (np.abs(t) >= _TIE * np.abs(observed)).sum(0)
