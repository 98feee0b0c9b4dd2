"""Greater-than: what began in one year ends in a later year of the same century.

Source: Hanna et al. 2023, "How does GPT-2 compute greater-than?" (arXiv:2305.00586). "The war lasted from the
year 1749 to the year 17" -> "50" to "99", not "00" to "49". As in the paper, `prob_diff` is the probability of
all two-digit endings above the start's minus that of all others, p(y > YY) - p(y <= YY), and sites are ranked by
it.

Tokenizers read years differently, and the number means the same for all. Where two digits are one token (GPT-2,
Pythia), the sets are the tokens above and the others. Where each digit is one (the default model, Llama 2, Qwen),
the answer position decides the decade, and the sets are decades. That is exact because every start ends in 9: all
years of its own decade are at most the start, all of the next ones above it, so each decade belongs to one set as
a whole. (With a start of 1743 the decade 4 would hold years of both.) Endings that a tokenizer would not write as
tokens of their own behind the century (" 1800" of GPT-2) are in no set; the century is one of 12 to 17, of which
GPT-2 has few such years. A tokenizer of three-digit tokens cannot serve these rows.

Start decades are dealt in turn, 1 to 7, so that over all prompts as many decades are above as are not: whoever
does not look at the start and takes all endings for equally likely scores zero. A preference for late years is
not balanced by that, since the behaviour has one direction: compare with the corrupt prompts, where the start no
longer excludes anything. Copying the start's decade, as induction does, is wrong. Top-1 accuracy asks for any of
the years above. Events and wordings of train, dev and test are different.

Corruptions: `start_01` lets the event begin in year 01 of the century, as in the paper, `earlier` a century
earlier. Both keep the length.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import Deck, Wording, draw_pool, fill, pair, partition
from tiny_ablation.data.families._words import words

if TYPE_CHECKING:
    import numpy as np

EVENTS = words("""
    war project trial campaign conflict expedition reign siege plague famine drought study search debate
    struggle rebellion revolution peace festival journey tour career marriage friendship occupation
""")

WORDINGS = [
    Wording("lasted", "The {event} lasted from the year {start} to the year {century}"),
    Wording("between", "The {event} took place between the years {start} and {century}"),
    Wording("went_on", "We know that the {event} went on from {start} until {century}"),
    Wording("began", "The {event} began in the year {start} and ended in the year {century}"),
    Wording("started", "The {event} started in {start} and was over in {century}"),
    Wording("continued", "The {event} continued from the year {start} until the year {century}"),
    Wording("dates", "The dates of the {event}: from {start} to {century}"),
    Wording("book", "This book is about the {event} from {start} to {century}"),
    Wording("spanned", "The {event} spanned the years from {start} to {century}"),
    Wording("came", "The {event} came in {start} and did not end before {century}"),
]

CENTURIES = tuple(str(century) for century in range(12, 18))
DECADES = tuple("1234567")

Side = tuple[str, tuple[str, ...]]  # an answer, and all that are as right or as wrong


def _answers(start: str, rng: "np.random.Generator") -> tuple[Side, Side]:
    """The two-digit years above the start's and the others; of each, one that stands for it.

    A round year, or one of the first ten, is more often a token of its own together with its century, so none of
    these stands for its set.
    """
    years = [f"{year:02d}" for year in range(100)]
    above = tuple(year for year in years if year > start[2:])
    below = tuple(year for year in years if year <= start[2:])
    plain = [[year for year in side if int(year) > 10 and year[1] != "0"] for side in (above, below)]
    target, foil = (side[rng.integers(len(side))] for side in plain)
    return (target, above), (foil, below)


def _stream(split: str, rng: "np.random.Generator", corruption: str) -> Iterator[tuple[Example, ...]]:
    events, decades = Deck(partition(EVENTS)[split], rng), Deck(DECADES, rng)
    for wording in cycle(partition(WORDINGS)[split]):
        century = CENTURIES[rng.integers(len(CENTURIES))]
        start = f"{century}{decades.one()}9"
        other = {"start_01": f"{century}01", "earlier": f"{int(century) - 1}{start[2:]}"}[corruption]
        slots = {"event": events.one(), "century": century}
        prompts = fill(wording, {"start": start, **slots}), fill(wording, {"start": other, **slots})
        (target, targets), (foil, foils) = _answers(start, rng)
        example = pair("greater_than", split, prompts, (target, foil), subject="start", group=wording.name)
        yield (replace(example, targets=targets, foils=foils, by_first_token=True),)


FAMILY = Family(
    name="greater_than",
    description="End a span of years later than it began: a year above the start, not one up to it.",
    build=lambda seed, corruption: draw_pool("greater_than", seed, partial(_stream, corruption=corruption)),
    seeded=True,
    corruptions=("start_01", "earlier"),
    primary="prob_diff",
)
