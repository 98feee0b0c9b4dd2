"""Probability difference between target and foil, over the whole vocabulary.

Between sets of answers it is that of their sums, as for "greater than" (Hanna et al. 2023, section 2).
"""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":  # noqa: ARG001 - the baseline's value is compute(b, b)
    """(m, n): p(target) - p(foil) in `a`."""
    return a.token_log_prob.exp() - (a.foil_logit - a.log_norm).exp()


METRIC = Metric(
    "prob_diff",
    "probability",
    "p(target) - p(foil) at the answer",
    compute,
    worse=-1,
    needs_foil=True,
    less="towards the foil",
    more="towards the target",
)
