"""Negation: what follows from a state that is, or is not, the case.

Written for this tool, after the observation of Ettinger 2020 (arXiv:1907.13528) and Kassner and Schütze 2020
(arXiv:1911.03343) that language models tend to complete a negated sentence as if it were not negated.

"I heard that the lamp is not on, so the room is" -> " dark", not " bright". Every state comes in four
versions: one predicate or its opposite ("on", "off"), negated ("not") or affirmed ("now"). Each of the two
answers is right in two of the four, so always giving one answer, going by the predicate alone and going by
the polarity alone all score one half. Neither answer stands in the prompt. `template` ends in `-negated` or
`-affirmed`: a model that ignores "not" is right on the second and wrong on the first.

The prompts are fixed; the seed only draws which are used. States and wordings of train, dev and test are
different.

Corruptions: `polarity` exchanges "not" and "now", `predicate` exchanges the predicate and its opposite.
Either way the foil is the answer, and the length stays.
"""

from itertools import product
from typing import NamedTuple

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import Prompt, Wording, fill, pair, partition
from tiny_ablation.data.guards import SPLITS


class State(NamedTuple):
    """What can be so or the opposite, and what then follows: the first predicate has the first answer."""

    thing: str
    predicates: tuple[str, str]
    result: str
    answers: tuple[str, str]


STATES = [
    State("lamp", ("on", "off"), "room", ("bright", "dark")),
    State("heater", ("on", "off"), "room", ("warm", "cold")),
    State("bottle", ("full", "empty"), "bag", ("heavy", "light")),
    State("man", ("rich", "poor"), "house he lives in", ("big", "small")),
    State("test", ("easy", "hard"), "number of good grades", ("high", "low")),
    State("stove", ("on", "off"), "pan", ("hot", "cold")),
    State("radio", ("on", "off"), "house", ("loud", "quiet")),
    State("path", ("flat", "steep"), "walk", ("easy", "hard")),
    State("watch", ("expensive", "cheap"), "price", ("high", "low")),
    State("road", ("safe", "dangerous"), "number of accidents", ("low", "high")),
    State("knife", ("sharp", "dull"), "work", ("easy", "hard")),
    State("train", ("fast", "slow"), "trip", ("short", "long")),
    State("baby", ("asleep", "awake"), "house", ("quiet", "loud")),
    State("sun", ("up", "down"), "sky", ("bright", "dark")),
    State("box", ("empty", "full"), "load", ("light", "heavy")),
    State("movie", ("good", "bad"), "audience", ("happy", "angry")),
    State("fruit", ("fresh", "rotten"), "smell", ("good", "bad")),
    State("tower", ("high", "low"), "climb", ("long", "short")),
    State("answer", ("right", "wrong"), "grade", ("good", "bad")),
    State("cup", ("empty", "full"), "tray", ("light", "heavy")),
    State("fridge", ("on", "off"), "milk inside", ("cold", "warm")),
    State("dish", ("clean", "dirty"), "guest", ("happy", "angry")),
    State("fire", ("out", "lit"), "cabin", ("cold", "warm")),
    State("car", ("old", "new"), "price", ("low", "high")),
    State("player", ("strong", "weak"), "score", ("high", "low")),
    State("music", ("loud", "soft"), "hall", ("noisy", "quiet")),
    State("patient", ("healthy", "sick"), "doctor", ("happy", "worried")),
    State("moon", ("up", "down"), "night", ("bright", "dark")),
    State("store", ("open", "closed"), "street", ("busy", "quiet")),
    State("oven", ("off", "on"), "bread", ("cold", "hot")),
]

WORDINGS = [
    Wording("heard", "I heard that the {thing} is {polarity} {predicate}, so the {result} must be very"),
    Wording("because", "Because the {thing} is {polarity} {predicate}, the {result} is quite"),
    Wording("result", "The {thing} is {polarity} {predicate}. As a result, the {result} is very"),
    Wording("means", "The {thing} is {polarity} {predicate}, which means that the {result} is rather"),
    Wording("since", "Since the {thing} is {polarity} {predicate}, we know that the {result} is quite"),
    Wording("see", "I see that the {thing} is {polarity} {predicate}. That is why the {result} is so"),
    Wording("told", "They told us that the {thing} is {polarity} {predicate}. So the {result} is very"),
    Wording("therefore", "We know that the {thing} is {polarity} {predicate}. Hence the {result} should be quite"),
    Wording("today", "Today the {thing} is {polarity} {predicate}, and because of this the {result} is too"),
    Wording("clear", "The {thing} is {polarity} {predicate}, and for this reason the {result} is rather"),
]

POLARITIES = ("now", "not")


def _example(split: str, wording: Wording, state: State, negated: int, predicate: int, corruption: str) -> Example:
    """One of the four versions of a state; `negated` and `predicate` are 0 or 1."""

    def prompt(negated: int, predicate: int) -> Prompt:
        said = {"polarity": POLARITIES[negated], "predicate": state.predicates[predicate]}
        return fill(wording, {"thing": state.thing, "result": state.result, **said})

    by_polarity = corruption == "polarity"
    corrupt = (1 - negated, predicate) if by_polarity else (negated, 1 - predicate)
    right = negated ^ predicate
    return pair(
        "negation",
        split,
        (prompt(negated, predicate), prompt(*corrupt)),
        (f" {state.answers[right]}", f" {state.answers[1 - right]}"),
        subject="polarity" if by_polarity else "predicate",
        group=wording.name,
        template=f"{wording.name}-{'negated' if negated else 'affirmed'}",
    )


def build(seed: int, corruption: str) -> list[Example]:  # noqa: ARG001 - the prompts are fixed
    """Every state in every wording of its split, in all four versions."""
    states, wordings = partition(STATES), partition(WORDINGS)
    return [
        _example(split, wording, state, negated, predicate, corruption)
        for split in SPLITS
        for wording, state in product(wordings[split], states[split])
        for negated, predicate in product((0, 1), repeat=2)
    ]


FAMILY = Family(
    name="negation",
    description="Infer a result from a state that is affirmed or negated.",
    build=build,
    corruptions=("polarity", "predicate"),
)
