"""Whole right answers that the intervention lost, teacher-forced."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric, Readout

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Readout, b: Readout) -> "Tensor":
    """(m, n): 1 where greedy decoding writes the whole target in `b` and does not in `a`, else 0."""
    return (greedy(b) & ~greedy(a)).to(a.logits.dtype)


def greedy(readout: Readout) -> "Tensor":
    """(m, n) bool: every token of the target is the most probable one after those before it."""
    return readout.per_example(readout.hit.to(readout.logits.dtype), ~readout.reads.is_foil, mean=True) == 1


METRIC = Metric(
    "seq_acc_flip_rate",
    "share of examples",
    "wholly right before, not after",
    compute,
    "full",
    worse=1,
    decides=True,
    never_negative=True,
    more="answers lost",
)
