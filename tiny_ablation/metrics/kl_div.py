"""Kullback-Leibler divergence of the intervened from the baseline distribution."""

import math
from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout, row_sums

if TYPE_CHECKING:
    from torch import Tensor


def kl_per_read(a: Readout, b: Readout) -> "Tensor":
    """(m, n_reads): KL(p_b || p_a) in nats.

    Written over the difference of log probabilities, so that a small divergence is a sum of small terms: subtracting two
    cross-entropies of size 10 would leave float32 noise of 1e-6 where the divergence may be smaller than that. The constant by
    which logits may differ is taken off before the sum: as large as 100, it would bring the rounding of p_b into a large one.
    """
    difference = b.logits - a.logits
    difference -= (b.log_norm - a.log_norm)[..., None]
    difference *= b.probabilities
    # A sum in pairs; a product of matrices adds 50,000 terms one after the other.
    found = row_sums(difference)
    if found.isnan().any():  # a token that the baseline gives minus infinity adds nothing, whatever it has in `a`
        found = row_sums(difference.masked_fill_(b.logits == -math.inf, 0))
    return found


METRIC = Metric(
    "kl_div",
    "nats",
    "KL divergence from the baseline's distribution",
    kl_per_read,
    worse=1,
    never_negative=True,
    more="output differs",
)
