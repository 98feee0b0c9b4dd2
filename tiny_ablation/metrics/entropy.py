"""Entropy of the next-token distribution: how undecided the model is."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":  # noqa: ARG001 - the baseline's value is compute(b, b)
    """(m, n): entropy of the next-token distribution in `a`, nats."""
    log_p = a.logits - a.log_norm[..., None]
    return -(log_p.exp() * log_p.clamp_min(-1e30)).sum(-1)  # a logit of -inf has probability 0 and adds 0


METRIC = Metric("entropy", "nats", "entropy of the next-token distribution", compute)
