"""What the un-intervened model makes of a set of examples: one clean pass, before anything is planned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.config.schema import Span
from tiny_ablation.data.tokens import TokenizedExample
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.network import Network

if TYPE_CHECKING:
    import numpy as np

CRITERIA = {
    Span.first: "the most probable next token is the target",
    Span.full: "the whole target is more probable than the whole foil",
}
"""When the model gets an example right."""


@dataclass(frozen=True)
class Baseline:
    """The clean pass.

    Attributes:
        correct: (n,) bool, whether the model gets the example right; see `CRITERIA`.
        diff: (n,) float64, `logit_diff`, or `seq_logprob_diff` where whole answers are scored.
    """

    correct: "np.ndarray"
    diff: "np.ndarray"


def prompt_of(tokens: TokenizedExample) -> Prompt:
    """The clean prompt as the engine sees it."""
    return Prompt(tokens.clean_ids, tokens.target_ids, tokens.foil_ids, tokens.marks, tokens.example.id)


def baseline(network: Network, tokens: Sequence[TokenizedExample], span: Span, batch_tokens: int) -> Baseline:
    """Run the clean prompts.

    Args:
        network: the model.
        tokens: the examples.
        span: how much of the answers is scored.
        batch_tokens: tokens in one forward pass.
    """
    import numpy as np

    from tiny_ablation.engine.executor import Executor
    from tiny_ablation.metrics.registry import metric

    full = span is Span.full
    measured = metric("seq_logprob_diff" if full else "logit_diff")
    diff, top1 = np.zeros(len(tokens)), np.zeros(len(tokens), dtype=np.int64)
    for result in Executor(network, [prompt_of(t) for t in tokens], [], [measured], full, batch_tokens):
        where = list(result.examples)
        diff[where] = result.baseline[measured.name].numpy()
        top1[where] = result.top1_baseline.numpy()
    return Baseline(diff > 0 if full else top1 == [t.target_ids[0] for t in tokens], diff)
