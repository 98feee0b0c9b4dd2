"""Answers that were wrong and are right now."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.acc_flip_rate import lost
from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":
    """(m, n): 1 where the top-1 token is a target in `a` and was not in `b`, else 0."""
    return lost(a, b)


METRIC = Metric(
    "acc_gain_rate",
    "share of examples",
    "wrong before, right after",
    compute,
    worse=-1,
    decides=True,
    never_negative=True,
    more="answers gained",
)
