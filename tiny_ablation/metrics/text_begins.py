"""Whether the continuation begins with a right answer."""

import re

from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.written import Asked, of_text


def begins(text: str, asked: Asked) -> bool:
    """White space in front does not count, and the answer must end where a word does."""
    answers = "|".join(re.escape(target.strip()) for target in asked.targets)
    return re.match(rf"\s*(?:{answers})(?:(?<!\w)|(?!\w))", text) is not None


METRIC = Metric(
    "text_begins",
    "share of examples",
    "the continuation begins with a right answer",
    of_text(begins),
    span="text",
    worse=-1,
    decides=True,
    less="answers lost",
    more="answers gained",
)
