"""Log-probability difference of whole answers, teacher-forced."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":  # noqa: ARG001 - the baseline's value is compute(b, b)
    """(m, n): log p(target) - log p(foil) in `a`, summed over the tokens of each, nats."""
    return a.sequence_log_prob(foil=False) - a.sequence_log_prob(foil=True)


METRIC = Metric(
    "seq_logprob_diff",
    "nats",
    "log p(target) - log p(foil) over the whole continuation",
    compute,
    "full",
    worse=-1,
    needs_foil=True,
    less="towards the foil",
    more="towards the target",
)
