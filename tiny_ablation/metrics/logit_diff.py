"""Logit difference: how much the model prefers the target to the foil (Wang et al. 2022, section 2).

Between sets of answers it is their log odds, log p(targets) - log p(foils), as it is between two tokens.
"""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":  # noqa: ARG001 - the baseline's value is compute(b, b)
    """(m, n): logit(target) - logit(foil) in `a`."""
    return a.token_logit - a.foil_logit


METRIC = Metric(
    "logit_diff",
    "logits",
    "logit(target) - logit(foil) at the answer",
    compute,
    worse=-1,
    needs_foil=True,
    less="towards the foil",
    more="towards the target",
)
