"""Named places of a prompt: from characters to tokens.

A family names what matters in its prompts as character spans (`Example.marks`). Here they become token
positions, with two names added: `subject`, where the example has one, and `last`, the answer position.
"""

import re
from collections.abc import Mapping, Sequence

from tiny_ablation.data.examples import Example, Span

SUBJECT = "subject"
LAST = "last"


def clean_spans(example: Example) -> dict[str, Span]:
    """The character spans of the clean prompt, with the subject's."""
    spans = dict(example.marks)
    if example.subject and SUBJECT not in spans:
        spans[SUBJECT] = _find(example.clean, example.subject)
    return spans


def corrupt_spans(example: Example) -> dict[str, Span]:
    """The character spans of the corrupt prompt.

    Its subject is what stands between the words that both prompts share; prompts that differ elsewhere too
    have no `subject` here unless the family marks it.
    """
    spans = dict(example.corrupt_marks)
    clean = clean_spans(example).get(SUBJECT)
    if clean is not None and SUBJECT not in spans and example.corrupt:
        before, after = example.clean[: clean[0]], example.clean[clean[1] :]
        end = len(example.corrupt) - len(after)
        if example.corrupt.startswith(before) and example.corrupt.endswith(after) and len(before) < end:
            spans[SUBJECT] = (len(before), end)
    return spans


def _find(prompt: str, subject: str) -> Span:
    """Where the subject stands: as whole words if it does ("art" in "The party of art"), first of several."""
    match = re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt)
    start = match.start() if match else prompt.index(subject)
    return start, start + len(subject)


def token_marks(spans: Mapping[str, Span], offsets: Sequence[Span], shift: int) -> dict[str, tuple[int, ...]]:
    """The token positions of each span, and of `last`.

    Args:
        spans: character spans by name.
        offsets: the characters `[start, end)` of each token of the prompt.
        shift: how many tokens stand before them (1 with a beginning-of-sequence token).

    Returns:
        For each name the positions of every token that shares a character with the span.
    """
    marks = {
        name: tuple(shift + i for i, (first, last) in enumerate(offsets) if first < end and last > start)
        for name, (start, end) in spans.items()
    }
    return {**marks, LAST: (shift + len(offsets) - 1,)}
