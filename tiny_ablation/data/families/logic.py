"""Logic: stated premises select one of two entities; what is asked about it is common knowledge.

Written for this tool. "If the box is open, the card says France. If the box is closed, the card says Japan.
The box is open. The capital of the country on the card is the city of" -> " Paris", not " Tokyo". Two steps
are needed: an inference that selects an entity (modus ponens, disjunctive syllogism, universal instantiation,
...; `template` names it) and a fact about it (`relation`). So the answer never stands in the prompt, and
knowing the facts without inferring scores one half.

Every pair of entities comes in both orders and with either one selected: both answers are right equally
often, and so are the first and the second entity. Entities and wordings of train, dev and test are different.
The prompts are fixed; the seed only draws which are used.

Corruptions: `premise` changes the word that selects (the answer is the foil), `rules` exchanges the two
entities (likewise). Both keep the length.
"""

from itertools import product
from typing import NamedTuple

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import Prompt, Wording, fill, pair, partition
from tiny_ablation.data.families._words import pairs
from tiny_ablation.data.guards import SPLITS


class Fact(NamedTuple):
    """What is asked about the selected entity, and the answers."""

    relation: str
    question: str
    answers: dict[str, str]


def _facts(relation: str, question: str, answers: str) -> Fact:
    """A fact whose answers are written as `entity/answer`."""
    return Fact(relation, question, dict(pairs(answers)))


# In each split, entities are paired as they follow each other here; the answers of a pair differ.
FACTS = [
    _facts(
        "capital",
        "The capital of the country on the card is the city of",
        """
            France/Paris Japan/Tokyo Russia/Moscow Egypt/Cairo Italy/Rome England/London
            Germany/Berlin Spain/Madrid China/Beijing Greece/Athens
        """,
    ),
    _facts(
        "language",
        "The people in the country on the card speak",
        """
            Portugal/Portuguese Sweden/Swedish Turkey/Turkish Poland/Polish Denmark/Danish
            Norway/Norwegian Hungary/Hungarian Finland/Finnish Korea/Korean Thailand/Thai
        """,
    ),
    _facts(
        "work",
        "The place where the person on the card works is the",
        """
            teacher/school doctor/hospital cook/kitchen judge/court farmer/field priest/church
            miner/mine pilot/plane baker/bakery actor/theater
        """,
    ),
    _facts(
        "color",
        "The thing on the card has the color",
        """
            blood/red grass/green snow/white coal/black chocolate/brown corn/yellow milk/white
            sky/blue night/black carrots/orange
        """,
    ),
]


class Form(NamedTuple):
    """A form of inference over the entities {a} and {b}; the first selecting word selects {a}."""

    wording: Wording
    words: tuple[str, str]


FORMS = [
    Form(
        Wording(
            "conditional",
            "If the box is open, the card says {a}. If the box is closed, the card says {b}. The box is {selector}.",
        ),
        ("open", "closed"),
    ),
    Form(
        Wording(
            "universal",
            "All cards in the old bag say {a}, and all cards in the new bag say {b}. The card is from the {selector} bag.",
        ),
        ("old", "new"),
    ),
    Form(
        Wording("unless", "On Sunday the card says {a}, on any other day it says {b}. Today is {selector}."),
        ("Sunday", "Monday"),
    ),
    Form(Wording("disjunctive", "The card says either {a} or {b}, but not the {selector} of the two."), ("second", "first")),
    Form(
        Wording("tollens", "The card says {a} if the lamp is on, and {b} if it is not. The lamp is {selector}."), ("on", "off")
    ),
    Form(
        Wording("owner", "Mary has a card that says {a}. John has a card that says {b}. We look at the card of {selector}."),
        ("Mary", "John"),
    ),
    Form(
        Wording(
            "exclusion",
            "The large box holds a card that says {a}, the small box one that says {b}. "
            "The {selector} box is lost, the other one is here.",
        ),
        ("small", "large"),
    ),
    Form(
        Wording(
            "class",
            "Rich people get a card that says {a}, and poor people one that says {b}. Peter is {selector} and has a card.",
        ),
        ("rich", "poor"),
    ),
    Form(
        Wording(
            "chain",
            "Winners go left and losers go right. On the left there is a card that says {a}, "
            "on the right one that says {b}. Anna has {selector}.",
        ),
        ("won", "lost"),
    ),
    Form(
        Wording("order", "There were two cards: one said {a}, the next one said {b}. We kept the {selector} card."),
        ("first", "second"),
    ),
]


def _prompt(form: Form, fact: Fact, entities: tuple[str, str], selected: int) -> Prompt:
    wording = Wording(form.wording.name, f"{form.wording.text} {fact.question}")
    return fill(wording, {"a": entities[0], "b": entities[1], "selector": form.words[selected]})


def build(seed: int, corruption: str) -> list[Example]:  # noqa: ARG001 - the prompts are fixed
    """Every pair of entities in every form of its split, in both orders and with either one selected."""
    found = []
    for split in SPLITS:
        for form, fact in product(partition(FORMS)[split], FACTS):
            held = partition(tuple(fact.answers))[split]
            twos = [both for a, b in zip(held[::2], held[1::2], strict=True) for both in ((a, b), (b, a))]
            for entities, selected in product(twos, (0, 1)):
                other = (entities, 1 - selected) if corruption == "premise" else ((entities[1], entities[0]), selected)
                example = pair(
                    "logic",
                    split,
                    (_prompt(form, fact, entities, selected), _prompt(form, fact, *other)),
                    (f" {fact.answers[entities[selected]]}", f" {fact.answers[entities[1 - selected]]}"),
                    subject="selector",
                    group=form.wording.name,
                    relation=fact.relation,
                )
                found.append(example)
    return found


FAMILY = Family(
    name="logic",
    description="Infer which of two entities is meant and complete a fact about it.",
    build=build,
    corruptions=("premise", "rules"),
)
