"""Indirect object identification: of two people who are named, the one who did not act gets the object.

Source: Wang et al. 2022, "Interpretability in the Wild" (arXiv:2211.00593). "When Anna and Tom went to the
park, Tom gave a ring to" -> " Anna". `io` is the indirect object, `s1` and `s2` the two mentions of the
subject; the subject's second mention decides the answer.

Examples come in twos that differ in nothing but who acts: one in the order ABBA (`io` is named first), one in
the order BABA, so that both orders, and every name as target and as foil, are equally frequent. Names, places
and objects are dealt in turn. The names, places and objects of train, dev and test are different, and so are
the wordings.

Corruptions: `abc` names three other people (nobody is the answer), `flipped` lets the other person act (the
answer is the foil), `third` lets somebody act who was not named (either could be the answer). All keep the
length.
"""

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import Deck, Prompt, Wording, draw_pool, fill, pair, partition
from tiny_ablation.data.families._words import NAMES, PLACES, words

if TYPE_CHECKING:
    import numpy as np

OBJECTS = words("""
    drink book ring gift letter box bag ball card key hat coat phone pen map picture flower cake watch
    computer
""")

WORDINGS = [
    Wording("went", "When {first} and {second} went to the {place}, {s2} gave a {object} to"),
    Wording("working", "While {first} and {second} were working at the {place}, {s2} handed a {object} to"),
    Wording("argument", "After {first} and {second} had a long argument at the {place}, {s2} passed a {object} to"),
    Wording("met", "Last week {first} and {second} met near the {place}, and {s2} gave a {object} to"),
    Wording("visit", "As soon as {first} and {second} had left the {place}, {s2} offered a {object} to"),
    Wording("found", "Then {first} and {second} found a {object} in the {place}. {s2} gave it to"),
    Wording("day", "Yesterday {first} and {second} spent the day at the {place}, where {s2} gave a {object} to"),
    Wording("asked", "Once {first} and {second} were back from the {place}, {s2} decided to give a {object} to"),
    Wording("stopped", "On the way home {first} and {second} stopped at the {place}, and {s2} showed a {object} to"),
    Wording("before", "Before {first} and {second} went into the {place}, {s2} quickly gave a {object} to"),
    Wording("lunch", "During lunch at the {place}, {first} and {second} talked for an hour, and {s2} gave a {object} to"),
    Wording("waited", "There {first} and {second} waited outside the {place} until {s2} handed a {object} to"),
    Wording("walked", "Since {first} and {second} had walked to the {place} together, {s2} gave a {object} to"),
    Wording("rain", "It rained, so {first} and {second} stayed in the {place}, and {s2} showed a {object} to"),
    Wording("monday", "On Monday {first} and {second} cleaned the {place}. Afterwards {s2} gave a {object} to"),
    Wording("friends", "The two friends {first} and {second} sat in the {place}, and {s2} passed a {object} to"),
    Wording("closed", "When the {place} closed, {first} and {second} were the last to leave, and {s2} gave a {object} to"),
    Wording("birthday", "For a birthday party {first} and {second} decorated the {place}, and then {s2} gave a {object} to"),
    Wording(
        "lost", "One day {first} and {second} got lost near the {place}. To say sorry, {s2} bought a {object} and gave it to"
    ),
    Wording("train", "While the train was late, {first} and {second} visited the {place}, where {s2} handed a {object} to"),
    Wording("morning", "Early in the morning {first} and {second} arrived at the {place}, and {s2} handed a {object} to"),
    Wording("story", "The story begins when {first} and {second} enter the {place} and {s2} gives a {object} to"),
    Wording("holiday", "On the first day of the holiday {first} and {second} saw the {place}, and {s2} gave a {object} to"),
    Wording("agreed", "By phone {first} and {second} agreed to meet at the {place}, because {s2} wanted to give a {object} to"),
    Wording("photo", "After {first} and {second} took a photo of the {place}, {s2} gave a {object} to"),
    Wording("neighbours", "Our neighbours {first} and {second} often go to the {place}. Yesterday {s2} lent a {object} to"),
    Wording("music", "There was music in the {place} when {first} and {second} came in, and {s2} offered a {object} to"),
    Wording("school", "After school {first} and {second} ran to the {place}, and there {s2} threw a {object} to"),
    Wording("winter", "In winter {first} and {second} met at the {place} every week, and each time {s2} gave a {object} to"),
    Wording("letter", "In the film, {first} and {second} hide in the {place}, and {s2} secretly passes a {object} to"),
    Wording("noise", "A noise woke {first} and {second} in the {place}, and {s2} quietly handed a {object} to"),
    Wording("plan", "The plan was that {first} and {second} would come to the {place}, and that {s2} would give a {object} to"),
    Wording("dinner", "Before dinner {first} and {second} walked around the {place}, and {s2} gave a {object} to"),
    Wording("bus", "On the bus to the {place}, {first} sat next to {second}, and {s2} showed a {object} to"),
    Wording("work", "When work at the {place} was over, {first} thanked {second}, and {s2} gave a {object} to"),
    Wording("game", "Together {first} and {second} played a game in the {place}, and at the end {s2} gave a {object} to"),
    Wording("snow", "Although it snowed, {first} and {second} went out to the {place}, and {s2} gave a {object} to"),
    Wording("guests", "The guests at the {place} were {first} and {second}, and after a while {s2} gave a {object} to"),
    Wording("opened", "As the {place} opened, {first} and {second} stood at the door, and {s2} passed a {object} to"),
    Wording("evening", "That evening {first} and {second} were alone in the {place}, so {s2} gave a {object} to"),
    Wording("tired", "Tired from the trip, {first} and {second} rested at the {place}, where {s2} offered a {object} to"),
    Wording("secret", "Nobody knew that {first} and {second} were in the {place} when {s2} gave a {object} to"),
    Wording("market", "First {first} and {second} went shopping, then they came to the {place}, and {s2} gave a {object} to"),
    Wording("teacher", "The teacher saw {first} and {second} in the {place}: {s2} was handing a {object} to"),
    Wording("years", "Years later {first} and {second} returned to the {place}, and {s2} handed a {object} to"),
    Wording("helped", "Because {first} and {second} had helped at the {place}, there was a gift: {s2} gave a {object} to"),
    Wording("crowd", "In the crowd at the {place}, {first} found {second} at last, and {s2} gave a {object} to"),
    Wording("promise", "As they had promised, {first} and {second} came back to the {place}, and {s2} gave a {object} to"),
    Wording("radio", "The radio said that {first} and {second} were at the {place} and that {s2} had given a {object} to"),
    Wording("goodbye", "To say goodbye, {first} and {second} went to the {place} once more, and {s2} gave a {object} to"),
]


ORDERS = {"abba": ("{io}", "{s1}"), "baba": ("{s1}", "{io}")}


def _prompt(wording: Wording, order: str, people: tuple[str, str, str], scene: dict[str, str]) -> Prompt:
    """The scene with `people` named first, named second and acting."""
    roles = ORDERS[order]
    text = wording.text.replace("{first}", roles[0]).replace("{second}", roles[1])
    first, second, actor = people
    return fill(Wording(wording.name, text), {roles[0][1:-1]: first, roles[1][1:-1]: second, "s2": actor} | scene)


def _stream(split: str, rng: "np.random.Generator", corruption: str) -> Iterator[tuple[Example, ...]]:
    names, others, places, objects = (Deck(partition(pool)[split], rng) for pool in (NAMES, NAMES, PLACES, OBJECTS))
    for wording in cycle(partition(WORDINGS)[split]):
        scene = {"place": places.one(), "object": objects.one()}
        a, b = people = names.deal(2)
        x, y, z = [name for name in others.deal(5) if name not in people][:3]
        bundle = []
        for order, io, s in (("abba", a, b), ("baba", b, a)):  # the second person acts, then the first
            corrupt = {"abc": (x, y, z), "flipped": (a, b, io), "third": (a, b, z)}[corruption]
            prompts = _prompt(wording, order, (a, b, s), scene), _prompt(wording, order, corrupt, scene)
            answers, template = (f" {io}", f" {s}"), f"{wording.name}-{order}"
            bundle.append(pair("ioi", split, prompts, answers, subject="s2", group=wording.name, template=template))
        yield tuple(bundle)


FAMILY = Family(
    name="ioi",
    description="Name the person who gets the object: of two named people, the one who does not act.",
    build=lambda seed, corruption: draw_pool("ioi", seed, partial(_stream, corruption=corruption)),
    seeded=True,
    corruptions=("abc", "flipped", "third"),
    answer_in_prompt=True,
)
