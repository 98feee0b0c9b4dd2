"""What a forward pass says at the answer, in the form every metric reads.

All of it in float32 or better: half-precision logits are widened before anything is computed from them.

What is scored is a set of tokens, of one token in most data: its probability is the sum over its tokens, its logit the
log-sum-exp of theirs, so that logits of two sets differ by the log odds of the one against the other, and that of one
token is its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.choices import DType

if TYPE_CHECKING:
    from torch import Tensor


# What two correct computations of one number in this precision differ by on a deep model, at most (absolute, for logits of
# size 10): at least twice the largest difference that was measured on the default model. Double precision does not reach its
# own rounding: models take norms, and TransformerLens softmaxes, in float32 whatever their precision is.
NUMERICAL_TOLERANCE = {DType.float64: 1e-5, DType.float32: 1e-3, DType.bfloat16: 0.25, DType.float16: 0.05}


@dataclass(frozen=True)
class Reads:
    """Which token each row of logits is asked about.

    A read is one position of one example at which the model's next-token distribution is looked at. With
    `metrics.span=first` an example has one read; with `full` one per token of target and foil, teacher-forced.
    """

    tokens: "Tensor"  # (n_reads, n_tokens) int64, the answer tokens that are scored there as one; see `token_sets`
    example: "Tensor"  # (n_reads,) int64, the row of the batch the read belongs to
    is_foil: "Tensor"  # (n_reads,) bool, whether the read scores the foil instead of the target
    foils: "Tensor"  # (n_reads, n_foils) int64, with `first`: the foil's tokens at the same position; unused with `full`
    n_examples: int  # how many examples the batch holds

    def to(self, device: str) -> "Reads":
        """The same reads with their index tensors on `device`."""
        moved = {name: getattr(self, name).to(device) for name in ("tokens", "example", "is_foil", "foils")}
        return Reads(n_examples=self.n_examples, **moved)


def token_sets(sets: Sequence[Sequence[int]]) -> "Tensor":
    """(n, longest) int64: a set of tokens in each row, -1 behind its last."""
    import torch

    width = max(map(len, sets), default=0)
    rows = [[*tokens, *[-1] * (width - len(tokens))] for tokens in sets]
    return torch.tensor(rows, dtype=torch.long).view(len(sets), width)


def of_sets(logits: "Tensor", sets: "Tensor") -> "Tensor":
    """(..., n): the logit of the set of tokens in each row of `sets` (n, width), from logits (..., n, d_vocab)."""
    index = sets.clamp_min(0).expand(*logits.shape[:-1], -1)
    return logits.gather(-1, index).masked_fill(sets < 0, -math.inf).logsumexp(-1)


def row_sums(x: "Tensor") -> "Tensor":
    """(...,): sums over the last dimension, each to the bit the same alone as among others."""
    # PyTorch cuts a sum up among threads where it is the only one.
    return x.sum(-1) if x.numel() > x.shape[-1] else x.expand(2, *x.shape).sum(-1)[0]


@dataclass
class Readout:
    """Logits of m runs at n reads, with what metrics share computed once."""

    logits: "Tensor"  # (m, n_reads, d_vocab), float32 or float64
    reads: Reads  # what each of the n rows is asked

    def __post_init__(self) -> None:
        import torch

        if self.logits.dtype not in (torch.float32, torch.float64):
            self.logits = self.logits.float()

    @cached_property
    def _of_softmax(self) -> "tuple[Tensor, Tensor]":
        """(m, n_reads) twice: the log of the softmax denominator, and the entropy in nats; both take the same exponentials."""
        highest = self.logits.amax(-1)
        # -inf has probability 0 and adds 0 to the entropy, as any number so far below the highest does.
        below = (self.logits - highest[..., None]).clamp_min(-1e30)
        share = below.exp()
        total = row_sums(share)
        return total.log() + highest, total.log() - row_sums(share * below) / total

    @property
    def log_norm(self) -> "Tensor":
        """(m, n_reads): log of the softmax denominator."""
        return self._of_softmax[0]

    @property
    def entropy(self) -> "Tensor":
        """(m, n_reads): entropy of the next-token distribution, nats."""
        return self._of_softmax[1]

    @cached_property
    def probabilities(self) -> "Tensor":
        """(m, n_reads, d_vocab): of every next token."""
        return self.logits.softmax(-1)

    @cached_property
    def token_logit(self) -> "Tensor":
        """(m, n_reads): the logit of the tokens each read scores."""
        return of_sets(self.logits, self.reads.tokens)

    @cached_property
    def foil_logit(self) -> "Tensor":
        """(m, n_reads): the logit of the foil at the same position (`span=first`)."""
        return of_sets(self.logits, self.reads.foils)

    @cached_property
    def token_log_prob(self) -> "Tensor":
        """(m, n_reads): the log probability of the tokens each read scores, nats."""
        return self.token_logit - self.log_norm

    @cached_property
    def top1(self) -> "Tensor":
        """(m, n_reads): the most probable next token; the first of those that tie."""
        import numpy as np
        import torch

        if self.logits.device.type != "cpu":
            return self.logits.argmax(-1)
        # NumPy's takes a tenth of the time of PyTorch's on a CPU.
        return torch.from_numpy(np.asarray(self.logits.detach().numpy().argmax(-1)))

    @cached_property
    def hit(self) -> "Tensor":
        """(m, n_reads) bool: whether the most probable next token is one of those the read scores."""
        return (self.top1[..., None] == self.reads.tokens).any(-1)

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


@dataclass(frozen=True)
class Metric:
    """One number per example.

    Attributes:
        name: as in `metrics.names` and in every table.
        unit: for axes and captions.
        meaning: what one example's value is.
        compute: `compute(a, b)` with the intervened readout `a` (m runs) and the baseline `b` (1 run) of the same
            examples gives (m, n_examples). The baseline's own value is `compute(b, b)`. Metrics of text get what was written
            instead (`tiny_ablation.metrics.written.Written`).
        span: `first`, `full` or `text`, the `metrics.span` under which it is defined, as its name says.
        worse: which way the metric moves when the model gets worse at its answer: -1 it falls, 1 it rises, 0 neither way is
            worse. `sweep.direction=hurts` and hypotheses go by it.
        decides: it counts whether the most probable token is the right one, which may go either way where two tokens tie; so it
            is 0 or 1, and its mean a rate.
        never_negative: it measures a distance, or counts losses; then a mean of 0 is no null hypothesis.
        needs_foil: it compares the target with a wrong answer, which every row must have.
        less: what a change below zero says about the model; empty where it says nothing more.
        more: what a change above zero says.
    """

    name: str
    unit: str
    meaning: str
    compute: Callable[[Any, Any], "Tensor"]
    span: str = "first"
    worse: int = 0
    decides: bool = False
    never_negative: bool = False
    needs_foil: bool = False
    less: str = ""
    more: str = ""
