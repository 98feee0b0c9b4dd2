"""What metrics of text (`metrics.span=text`) read: the continuations that the model wrote, beside what was asked."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.errors import NumericsError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Asked:
    """One example, as a metric of text may look at it."""

    id: str  # its name
    prompt: str
    targets: tuple[str, ...]  # the right answers; at least one
    foils: tuple[str, ...] = ()  # the wrong ones; none where the row has no foil
    pattern: str | None = None  # `generate.pattern`


@dataclass(frozen=True)
class Written:
    """What m runs wrote behind n prompts, up to the end of the text or `generate.stop`, which are not part of it."""

    texts: Sequence[Sequence[str]]  # for each run, the continuation of each prompt
    asked: Sequence[Asked]


Score = Callable[[str, Asked], float]


def of_text(score: Score) -> "Callable[[Written, Written], Tensor]":
    """What a metric computes whose value for an example is `score(text, asked)`, a number or a truth value."""

    def compute(a: Written, b: Written) -> "Tensor":  # noqa: ARG001
        import torch

        values = [[_finite(score, *each) for each in zip(row, a.asked, strict=True)] for row in a.texts]
        return torch.tensor(values, dtype=torch.float64)

    return compute


def _finite(score: Score, text: str, asked: Asked) -> float:
    value = float(score(text, asked))
    if not math.isfinite(value):
        raise NumericsError(f"a metric of text gives {value} for what was written behind {asked.id}: {text!r}")
    return value
