"""Gendered pronouns: a name decides between " she" and " he".

Source: the gendered-pronoun circuit of Mathwin and Corlouer 2023 and, for names and bias, Vig et al. 2020
(arXiv:2004.12265). "After lunch Anna left the park because" -> " she". Only given names that are common for
one gender are used; professions, where a "right" pronoun would be a stereotype, are not.

Examples come in twos that differ in nothing but the name, one a woman's and one a man's: both pronouns are
the answer equally often in every wording. Names, places, times and wordings of train, dev and test are
different.

Corruptions: `gender` puts the other name of the two (the answer is the foil), `someone` puts the word
"someone" (neither is the answer). Both keep the length.
"""

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import Deck, Wording, draw_pool, fill, pair, partition
from tiny_ablation.data.families._words import FEMALE, MALE, PLACES

if TYPE_CHECKING:
    import numpy as np

TIMES = [
    "After lunch",
    "Late last night",
    "This morning",
    "Yesterday",
    "In the end",
    "Last summer",
    "Before sunrise",
    "At noon",
    "On Monday",
    "Once again",
]

WORDINGS = [
    Wording("left", "{time} {name} left the {place} because"),
    Wording("said", "{time} {name} came back from the {place} and said that"),
    Wording("stayed", "{time} {name} stayed at the {place} because"),
    Wording("told", "{time} {name} told everyone at the {place} that"),
    Wording("went", "{time} {name} went to the {place}, where"),
    Wording("happy", "{time} {name} was happy at the {place} because"),
    Wording("waited", "{time} {name} waited near the {place} and hoped that"),
    Wording("thought", "{time} {name} walked past the {place} and thought that"),
    Wording("smiled", "{time} {name} smiled in front of the {place} when"),
    Wording("late", "{time} {name} was late for the {place} because"),
]

PRONOUNS = (" she", " he")


def _stream(split: str, rng: "np.random.Generator", corruption: str) -> Iterator[tuple[Example, ...]]:
    """The same sentence about a woman and about a man."""

    def example(wording: Wording, scene: dict[str, str], names: tuple[str, str], gender: int) -> Example:
        corrupt = names[1 - gender] if corruption == "gender" else "someone"
        prompts = fill(wording, {"name": names[gender], **scene}), fill(wording, {"name": corrupt, **scene})
        answers = PRONOUNS[gender], PRONOUNS[1 - gender]
        return pair("pronoun", split, prompts, answers, subject="name", group=wording.name)

    women, men, places, times = (Deck(partition(pool)[split], rng) for pool in (FEMALE, MALE, PLACES, TIMES))
    for wording in cycle(partition(WORDINGS)[split]):
        scene = {"time": times.one(), "place": places.one()}
        names = (women.one(), men.one())
        yield example(wording, scene, names, 0), example(wording, scene, names, 1)


FAMILY = Family(
    name="pronoun",
    description="Continue with the pronoun that fits a given name.",
    build=lambda seed, corruption: draw_pool("pronoun", seed, partial(_stream, corruption=corruption)),
    seeded=True,
    corruptions=("gender", "someone"),
)
