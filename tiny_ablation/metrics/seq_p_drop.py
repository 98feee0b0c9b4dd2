"""Loss of probability of the whole target, teacher-forced."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":
    """(m, n): p_b(whole target) - p_a(whole target)."""
    return b.sequence_log_prob(foil=False).exp() - a.sequence_log_prob(foil=False).exp()


METRIC = Metric(
    "seq_p_drop",
    "probability",
    "how much probability the whole target loses",
    compute,
    "full",
    worse=1,
    less="target likelier",
    more="target lost",
)
