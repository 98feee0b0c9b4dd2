"""Kullback-Leibler divergence of the intervened from the baseline distribution."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def kl_per_read(a: Readout, b: Readout) -> "Tensor":
    """(m, n_reads): KL(p_b || p_a) in nats.

    Written over the difference of logits, so that a small divergence is a sum of small terms: subtracting two
    cross-entropies of size 10 would leave float32 noise of 1e-6 where the divergence may be smaller than that.
    """
    import torch

    p_b = (b.logits[0] - b.log_norm[0, :, None]).exp()
    expected = torch.einsum("nv,mnv->mn", p_b, b.logits - a.logits)
    return expected + a.log_norm - b.log_norm


METRIC = Metric(
    "kl_div", "nats", "KL divergence of the intervened from the baseline distribution", kl_per_read, worse=1
)
