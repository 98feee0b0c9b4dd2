"""Answers that were right and are not any more."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def lost(before: Readout, after: Readout) -> "Tensor":
    """(m, n): 1 where the top token is the target in `before` and is not in `after`."""
    was = before.top1 == before.reads.token
    now = after.top1 == after.reads.token
    return (was & ~now).to(after.logits.dtype)


def compute(a: Readout, b: Readout) -> "Tensor":
    """(m, n): 1 where the top-1 token was the target in `b` and is not in `a`, else 0."""
    return lost(b, a)


METRIC = Metric(
    "acc_flip_rate", "share of examples", "right before, wrong after", compute, worse=1, decides=True
)
