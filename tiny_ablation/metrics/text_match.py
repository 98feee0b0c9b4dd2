"""Whether a regular expression (`generate.pattern`) is found in the continuation."""

import re

from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.written import Asked, of_text

ANSWER = r"(?<!\w){target}(?!\w)"  # a right answer anywhere, as whole words


def matches(text: str, asked: Asked) -> bool:
    """`{target}` and `{foil}` in the expression stand for any right and any wrong answer of the example."""
    pattern = asked.pattern or ANSWER
    for name, answers in (("{target}", asked.targets), ("{foil}", asked.foils)):
        # Without foils nothing matches, not the empty text.
        either = "|".join(re.escape(answer.strip()) for answer in answers) or "(?!)"
        pattern = pattern.replace(name, f"(?:{either})")
    return re.search(pattern, text) is not None


METRIC = Metric(
    "text_match",
    "share of examples",
    "generate.pattern is found in the continuation",
    of_text(matches),
    span="text",
    decides=True,
    less="matches lost",
    more="matches gained",
)
