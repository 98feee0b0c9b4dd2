"""Log-probability difference of whole answers per token, teacher-forced."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":  # noqa: ARG001 - the baseline's value is compute(b, b)
    """(m, n): mean log probability of the target's tokens minus that of the foil's in `a`, nats per token.

    Summing favours the shorter answer, as every token costs probability; this does not.
    """
    is_foil = a.reads.is_foil
    target, foil = (a.per_example(a.token_log_prob, is_foil == side, mean=True) for side in (False, True))
    return target - foil


METRIC = Metric(
    "seq_logprob_diff_norm",
    "nats per token",
    "mean log probability per token of target minus foil",
    compute,
    "full",
    worse=-1,
    needs_foil=True,
    less="towards the foil",
    more="towards the target",
)
