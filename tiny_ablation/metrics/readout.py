"""What a forward pass says at the answer, in the form every metric reads.

All of it in float32 or better: half-precision logits are widened before anything is computed from them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reads:
    """Which token each row of logits is asked about.

    A read is one position of one example at which the model's next-token distribution is looked at. With
    `metrics.span=first` an example has one read; with `full` one per token of target and foil, teacher-forced.

    Attributes:
        token: (n_reads,) int64, the answer token that is scored there.
        example: (n_reads,) int64, the row of the batch the read belongs to.
        is_foil: (n_reads,) bool, whether the read scores the foil instead of the target.
        foil: (n_reads,) int64, with `first`: the foil's token at the same position; unused with `full`.
        n_examples: how many examples the batch holds.
    """

    token: "Tensor"
    example: "Tensor"
    is_foil: "Tensor"
    foil: "Tensor"
    n_examples: int

    def to(self, device: str) -> "Reads":
        """The same reads with their index tensors on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("token", "example", "is_foil", "foil")}
        return Reads(n_examples=self.n_examples, **moved)


@dataclass
class Readout:
    """Logits of m runs at n reads, with what metrics share computed once.

    Attributes:
        logits: (m, n_reads, d_vocab), float32 or float64.
        reads: what each of the n rows is asked.
    """

    logits: "Tensor"
    reads: Reads

    def __post_init__(self) -> None:
        import torch

        if self.logits.dtype not in (torch.float32, torch.float64):
            self.logits = self.logits.float()

    @cached_property
    def log_norm(self) -> "Tensor":
        """(m, n_reads): log of the softmax denominator."""
        return self.logits.logsumexp(-1)

    @cached_property
    def token_logit(self) -> "Tensor":
        """(m, n_reads): the logit of the token each read scores."""
        return self._gather(self.reads.token)

    @cached_property
    def foil_logit(self) -> "Tensor":
        """(m, n_reads): the logit of the foil at the same position (`span=first`)."""
        return self._gather(self.reads.foil)

    @cached_property
    def token_log_prob(self) -> "Tensor":
        """(m, n_reads): the log probability of the token each read scores, nats."""
        return self.token_logit - self.log_norm

    @cached_property
    def top1(self) -> "Tensor":
        """(m, n_reads): the most probable next token."""
        return self.logits.argmax(-1)

    def sequence_log_prob(self, *, foil: bool) -> "Tensor":
        """(m, n_examples): summed log probability of the whole target or foil (`span=full`)."""
        return self.per_example(self.token_log_prob, self.reads.is_foil == foil)

    def per_example(self, values: "Tensor", keep: "Tensor", *, mean: bool = False) -> "Tensor":
        """(m, n_examples): `values` (m, n_reads) summed, or averaged, over the kept reads of each example."""
        import torch

        out = values.new_zeros(values.shape[0], self.reads.n_examples)
        out.index_add_(1, self.reads.example[keep], values[:, keep])
        if mean:
            out /= torch.bincount(self.reads.example[keep], minlength=self.reads.n_examples)
        return out

    def _gather(self, tokens: "Tensor") -> "Tensor":
        index = tokens.view(1, -1, 1).expand(self.logits.shape[0], -1, 1)
        return self.logits.gather(-1, index).squeeze(-1)


@dataclass(frozen=True)
class Metric:
    """One number per example.

    Attributes:
        name: as in `metrics.names` and in every table.
        unit: for axes and captions.
        description: one sentence.
        compute: `compute(a, b)` with the intervened readout `a` (m runs) and the baseline `b` (1 run) of the same
            examples gives (m, n_examples). The baseline's own value is `compute(b, b)`.
        span: `first`, `full`, the `metrics.span` under which it is defined.
        worse: which way the metric moves when the model gets worse at its answer: -1 it falls, 1 it rises, 0 neither way is
            worse. `sweep.direction=hurts` and hypotheses go by it.
        decides: it counts whether the most probable token is the right one, which may go either way where two tokens tie.
    """

    name: str
    unit: str
    description: str
    compute: Callable[[Readout, Readout], "Tensor"]
    span: str = "first"
    worse: int = 0
    decides: bool = False
