"""What the un-intervened model makes of a set of examples: overall, and for each wording."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.schema import Span
from tiny_ablation.data.tokens import TokenizedExample
from tiny_ablation.engine.prompts import Prompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

    from tiny_ablation.models.network import Network

BEGINS = "the most probable next token begins the target"
CRITERIA = {
    Span.first: "the most probable next token is the target, or one of the targets",
    Span.full: "the whole target is more probable than the whole foil",
    Span.text: BEGINS,
}
"""When the model gets an example right."""

DIFFERENCES = {Span.first: ("logit_diff", "prob_diff"), Span.full: ("seq_logprob_diff",), Span.text: ()}
"""What is said of the clean pass besides."""

CHANCE = 0.5
"""How often the target is preferred to the foil by a model that knows nothing."""

MARGIN = 0.1
"""A preference whose interval does not clear chance by this much is too weak to ask what carries it."""

WELL_ABOVE = 0.75
"""From this lower bound on the documentation calls a behaviour well above chance."""

# The first of these that was measured decides whether the target is preferred: all have the sign of the log odds.
PREFERENCE = ("logit_diff", "seq_logprob_diff", "prob_diff")


@dataclass(frozen=True)
class Baseline:
    """The clean pass."""

    correct: "np.ndarray"  # (n,) bool, whether the model gets the example right
    criterion: str  # when it does: one of `CRITERIA`, or of whole answers without foils `BEGINS`
    measured: "dict[str, np.ndarray]"  # each of `DIFFERENCES` of the span, (n,) float64; none where an example has no foil
    top1: "np.ndarray"  # (n,) the token that is the likeliest next one

    @property
    def preferred(self) -> "dict[str, np.ndarray]":
        """`preference`, (n,) bool, whether the target is preferred to the foil; empty where an example has no foil."""
        first = next(iter(self.measured.values()), None)
        return {} if first is None else {"preference": first > 0}


def prompt_of(tokens: TokenizedExample, *, corrupt: bool = False) -> Prompt:
    """The clean or the corrupt prompt as the engine sees it; both are asked for the same answers."""
    ids, marks = (tokens.corrupt_ids, tokens.corrupt_marks) if corrupt else (tokens.clean_ids, tokens.marks)
    return Prompt(ids, tokens.target_ids, tokens.foil_ids, marks, tokens.example.id, tokens.right_ids, tokens.wrong_ids)


def is_right(tokens: Sequence[TokenizedExample], top1: Sequence[int]) -> "np.ndarray":
    """(n,) bool: whether the most probable next token of each example is right."""
    import numpy as np

    return np.array([top in t.right_ids for t, top in zip(tokens, top1, strict=True)], dtype=bool)


def baseline(network: "Network", tokens: Sequence[TokenizedExample], span: Span, batch_tokens: int) -> Baseline:
    """Run the clean prompts."""
    import numpy as np

    from tiny_ablation.engine.executor import Executor
    from tiny_ablation.metrics.registry import metric

    compared = all(t.example.wrong for t in tokens)
    full, metrics = span is Span.full, [metric(name) for name in DIFFERENCES[span] if compared]
    measured = {m.name: np.zeros(len(tokens)) for m in metrics}
    top1 = np.zeros(len(tokens), dtype=np.int64)
    for result in Executor(network, [prompt_of(t) for t in tokens], [], metrics, full, batch_tokens):
        where = list(result.examples)
        for name, values in measured.items():
            values[where] = result.baseline[name].numpy()
        top1[where] = result.top1_baseline.numpy()
    found = Baseline(is_right(tokens, top1.tolist()), BEGINS if full else CRITERIA[span], measured, top1)
    if full and compared:
        return replace(found, correct=found.preferred["preference"], criterion=CRITERIA[span])
    return found


def by_template(templates: Sequence[str], columns: Mapping[str, "ArrayLike"]) -> list[dict[str, Any]]:
    """A row per template in sorted order: `template`, `n`, and the mean of each column."""
    import numpy as np

    labels = np.asarray(templates)
    rows = []
    for template in sorted(set(templates)):
        mine = labels == template
        means = {name: float(np.asarray(values, dtype=float)[mine].mean()) for name, values in columns.items()}
        rows.append({"template": template, "n": int(mine.sum()), **means})
    return rows


def verdict(preference: Mapping[str, float]) -> str:
    """What a share of preferred targets says, in words."""
    low, high = preference["ci_low"], preference["ci_high"]
    if not (low <= high):  # one group: there is no interval
        return "unknown (one group)"
    if low > CHANCE:
        return "well above chance" if low >= WELL_ABOVE else "above chance"
    return "below chance" if high < CHANCE else "at chance"


def is_weak(preference: Mapping[str, float]) -> bool:
    """Whether the preference does not clear chance by the margin."""
    low = preference["ci_low"]
    return (preference["mean"] if math.isnan(low) else low) < CHANCE + MARGIN
