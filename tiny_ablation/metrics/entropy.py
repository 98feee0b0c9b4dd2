"""Entropy of the next-token distribution: how undecided the model is."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":  # noqa: ARG001 - the baseline's value is compute(b, b)
    """(m, n): entropy of the next-token distribution in `a`, nats."""
    return a.entropy


METRIC = Metric("entropy", "nats", "entropy of the next-token distribution", compute, less="surer", more="less sure")
