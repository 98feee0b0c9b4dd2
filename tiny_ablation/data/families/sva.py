"""Subject-verb agreement: the verb agrees with its subject, not with the noun that stands closest.

Sources: Linzen et al. 2016 (arXiv:1611.01368); Finlayson et al. 2021 (arXiv:2106.06087). "Nobody knows where
the small key" -> " is", not " are"; with an attractor, "I wondered how old the keys near the lamp" ->
" were", not " was". The wordings are indirect questions, which leave little but a verb to come next.

Every noun comes as singular and as plural, with every number of the attractor, in one bundle: both verbs are
the answer equally often, in each wording, and agreeing with the attractor scores one half. `template` says of
attractors whether their number agrees with the subject's (`congruent`) or not (`incongruent`). Nouns and
wordings of train, dev and test are different.

Corruptions: `number` gives the subject the other number, `noun` replaces it by another noun of the other
number. Either way the foil is the answer, and the length stays.
"""

from collections.abc import Iterator
from functools import partial
from itertools import cycle, product
from typing import TYPE_CHECKING, NamedTuple

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import Deck, Prompt, Wording, draw_pool, fill, pair, partition
from tiny_ablation.data.families._words import PEOPLE, THINGS, words

if TYPE_CHECKING:
    import numpy as np

PLURAL = dict([*PEOPLE, *THINGS])
NOUNS = [noun for both in zip(PEOPLE, THINGS, strict=True) for noun in (both[0][0], both[1][0])]


ADJECTIVES = words("small big tall strong quiet famous strange pretty local French")


class Frame(NamedTuple):
    """A wording and its verb, singular and plural."""

    wording: Wording
    verbs: tuple[str, str]


FRAMES = [
    Frame(Wording("knows", "Nobody knows where the {adjective} {subject}"), ("is", "are")),
    Frame(Wording("wondered", "I wondered how old the {subject} near the {attractor}"), ("was", "were")),
    Frame(Wording("told", "They told me how old the {adjective} {subject}"), ("was", "were")),
    Frame(Wording("see", "We can see how old the {subject} behind the {attractor}"), ("is", "are")),
    Frame(Wording("asked", "She asked me how important the {adjective} {subject}"), ("was", "were")),
    Frame(Wording("say", "I cannot say how big the {subject} from the {attractor}"), ("is", "are")),
    Frame(Wording("ask", "Do not ask me how old the {adjective} {subject}"), ("is", "are")),
    Frame(Wording("informed", "Nobody told us how old the {subject} with the {attractor}"), ("was", "were")),
    Frame(Wording("forgot", "He forgot how beautiful the {adjective} {subject}"), ("was", "were")),
    Frame(Wording("should", "You should know how old the {subject} next to the {attractor}"), ("is", "are")),
]


def _inflect(noun: str, number: int) -> str:
    return PLURAL[noun] if number else noun


def _example(split: str, frame: Frame, drawn: list[str], numbers: tuple[int, ...], corruption: str) -> Example:
    """One prompt; `numbers` holds 0 (singular) or 1 (plural) for the subject and then any attractor."""
    subject, attractor, other, adjective = drawn
    number, wording = numbers[0], frame.wording

    def prompt(noun: str, number: int) -> Prompt:
        other_slots = {"adjective": adjective, "attractor": _inflect(attractor, numbers[-1])}
        return fill(wording, {"subject": _inflect(noun, number), **other_slots})

    prompts = prompt(subject, number), prompt(other if corruption == "noun" else subject, 1 - number)
    answers = f" {frame.verbs[number]}", f" {frame.verbs[1 - number]}"
    kind = "simple" if len(numbers) == 1 else "congruent" if number == numbers[1] else "incongruent"
    template = f"{wording.name}-{kind}"
    return pair("sva", split, prompts, answers, subject="subject", group=wording.name, template=template)


def _stream(split: str, rng: "np.random.Generator", corruption: str) -> Iterator[tuple[Example, ...]]:
    nouns, adjectives = (Deck(partition(pool)[split], rng) for pool in (NOUNS, ADJECTIVES))
    repeats = {frame: 2 if "{attractor}" in frame.wording.text else 1 for frame in partition(FRAMES)[split]}
    # A frame with an attractor makes four prompts at once, one without makes two and so comes up twice.
    for frame in cycle([frame for frame, n in repeats.items() for _ in range(3 - n)]):
        drawn = [*nouns.deal(3), adjectives.one()]
        cells = product((0, 1), repeat=repeats[frame])
        yield tuple(_example(split, frame, drawn, numbers, corruption) for numbers in cells)


FAMILY = Family(
    name="sva",
    description="Choose the verb form that agrees with the subject, beside a noun of either number.",
    build=lambda seed, corruption: draw_pool("sva", seed, partial(_stream, corruption=corruption)),
    seeded=True,
    corruptions=("number", "noun"),
)
