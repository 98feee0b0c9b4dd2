"""Mean KL divergence along the target continuation, teacher-forced."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.kl_div import kl_per_read
from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":
    """(m, n): KL(p_b || p_a) averaged over the positions that predict the target's tokens, nats."""
    return a.per_example(kl_per_read(a, b), ~a.reads.is_foil, mean=True)


METRIC = Metric(
    "seq_kl_mean",
    "nats",
    "mean KL divergence over the continuation",
    compute,
    "full",
    worse=1,
    never_negative=True,
    more="output differs",
)
