"""Answers that were right and are not any more."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def lost(before: Readout, after: Readout) -> "Tensor":
    """(m, n): 1 where the top token is a target in `before` and is not in `after`."""
    return (before.hit & ~after.hit).to(after.logits.dtype)


def compute(a: Readout, b: Readout) -> "Tensor":
    """(m, n): 1 where the top-1 token was a target in `b` and is not in `a`, else 0."""
    return lost(b, a)


METRIC = Metric(
    "acc_flip_rate",
    "share of examples",
    "right before, wrong after",
    compute,
    worse=1,
    decides=True,
    never_negative=True,
    more="answers lost",
)
