"""Loss of probability of the target against the baseline."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":
    """(m, n): p_b(target) - p_a(target)."""
    return b.token_log_prob.exp() - a.token_log_prob.exp()


METRIC = Metric(
    "p_drop", "probability", "probability the target loses", compute, worse=1, less="target likelier", more="target lost"
)
