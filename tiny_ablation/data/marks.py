"""Named places of a prompt: from characters to tokens.

A family names what matters in its prompts as character spans (`Example.marks`). Here they become token
positions, with two names added: `subject`, where the example has one, and `last`, the answer position.
"""

import re
from collections.abc import Mapping, Sequence

from tiny_ablation.data.examples import Example, Span
from tiny_ablation.data.text import words_at

SUBJECT = "subject"
LAST = "last"


def clean_spans(example: Example) -> dict[str, Span]:
    """The character spans of the clean prompt, with the subject's.

    Of several places where the subject stands, it is the one where exchanging it gives the corrupt prompt,
    else the first.
    """
    spans = dict(example.marks)
    if example.subject and SUBJECT not in spans:
        # As whole words where the subject stands so ("art" in "the party of art").
        matches = re.finditer(re.escape(example.subject), example.clean)
        places = [*words_at(example.clean, example.subject)] or [match.span() for match in matches]
        spans[SUBJECT] = next((place for place in places if _counterpart(example, place)), places[0])
    return spans


def corrupt_spans(example: Example) -> dict[str, Span]:
    """The character spans of the corrupt prompt.

    Its subject is what stands between the words that both prompts share; prompts that differ elsewhere too
    have no `subject` here unless the family marks it.
    """
    spans = dict(example.corrupt_marks)
    subject = clean_spans(example).get(SUBJECT)
    counterpart = _counterpart(example, subject) if subject else None
    return {SUBJECT: counterpart, **spans} if counterpart else spans


def _counterpart(example: Example, place: Span) -> Span | None:
    """What stands in the corrupt prompt between the words before and after a place of the clean one."""
    before, after = example.clean[: place[0]], example.clean[place[1] :]
    end = len(example.corrupt) - len(after)
    shared = example.corrupt.startswith(before) and example.corrupt.endswith(after)
    return (len(before), end) if shared and len(before) < end else None


def token_marks(spans: Mapping[str, Span], offsets: Sequence[Span], shift: int) -> dict[str, tuple[int, ...]]:
    """The positions of every token that shares a character with each span, and of `last`.

    `offsets` are the characters `[start, end)` of each token; `shift` tokens stand before them.
    """
    marks = {
        name: tuple(shift + i for i, (first, last) in enumerate(offsets) if first < end and last > start)
        for name, (start, end) in spans.items()
    }
    return {**marks, LAST: (shift + len(offsets) - 1,)}
