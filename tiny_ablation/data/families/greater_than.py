"""Greater-than: what began in one year ends in a later year of the same century.

Source: Hanna et al. 2023, "How does GPT-2 compute greater-than?" (arXiv:2305.00586). "The war lasted from the
year 1743 to the year 17" -> a decade digit above 4, such as "6", not one below, such as "2".

The original compares the probability of all two-digit endings above with that of all below. Here a prompt has
one target above and one foil below, both a single decade digit, because the default model's tokenizer (as
those of Llama 2 and Qwen) splits numbers into digits. `prob_diff` is then the probability of one digit above
minus that of one below, and averages over the digits that the pool draws. A tokenizer that joins digits
(GPT-2, Pythia) cannot serve these rows. Top-1 accuracy says little here, as several digits are right.

Neither digit stands anywhere in the prompt, so neither can be copied. Start decades are dealt in turn, so
that the middle digits are target in some prompts and foil in others; a high target cannot be balanced by a
low one, since the behaviour has one direction: compare with the corrupt prompts, where the preference should
vanish. Events and wordings of train, dev and test are different.

Corruptions: `start_01` lets the event begin in year 01 of the century, as in the paper, `earlier` a century
earlier; either way both digits are possible ends. Both keep the length.
"""

from collections.abc import Iterator
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

CENTURIES = tuple(str(century) for century in range(11, 19))
DECADES = tuple("34567")


def _years(rng: "np.random.Generator", decade: str) -> tuple[str, str, str, str]:
    """Century, last digit of the start, target and foil, such that neither answer stands in the start.

    A foil is at least 2: a year in the first two decades of a century is unlikely whatever the start.
    """
    while True:
        century = CENTURIES[rng.integers(len(CENTURIES))]
        last = str(rng.integers(2, 10))
        free = [d for d in "23456789" if d not in century + decade + last]
        above, below = [d for d in free if d > decade], [d for d in free if d < decade]
        if above and below:
            return century, last, above[rng.integers(len(above))], below[rng.integers(len(below))]


def _stream(split: str, rng: "np.random.Generator", corruption: str) -> Iterator[tuple[Example, ...]]:
    events, decades = Deck(partition(EVENTS)[split], rng), Deck(DECADES, rng)
    for wording in cycle(partition(WORDINGS)[split]):
        decade = decades.one()
        century, last, target, foil = _years(rng, decade)
        other = {"start_01": f"{century}01", "earlier": f"{int(century) - 1}{decade}{last}"}[corruption]
        slots = {"event": events.one(), "century": century}
        clean = fill(wording, {"start": f"{century}{decade}{last}", **slots})
        prompts = clean, fill(wording, {"start": other, **slots})
        yield (pair("greater_than", split, prompts, (target, foil), subject="start", group=wording.name),)


FAMILY = Family(
    name="greater_than",
    description="End a span of years later than it began: a decade digit above the start's, not one below.",
    build=lambda seed, corruption: draw_pool("greater_than", seed, partial(_stream, corruption=corruption)),
    seeded=True,
    corruptions=("start_01", "earlier"),
)
