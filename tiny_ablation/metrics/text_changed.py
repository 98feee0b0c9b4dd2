"""Whether the continuation is another one than the un-intervened model's."""

from typing import TYPE_CHECKING

from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.written import Written

if TYPE_CHECKING:
    from torch import Tensor


def compute(a: Written, b: Written) -> "Tensor":
    """(m, n): 1 where the texts differ, else 0."""
    import torch

    changed = [[text != base for text, base in zip(row, b.texts[0], strict=True)] for row in a.texts]
    return torch.tensor(changed, dtype=torch.float64)


METRIC = Metric(
    "text_changed",
    "share of examples",
    "the continuation is not the un-intervened model's",
    compute,
    span="text",
    decides=True,
    never_negative=True,
    more="other continuations",
)
