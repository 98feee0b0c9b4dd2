"""Logic: which of two cases holds follows from stated premises; what is asked about it is common knowledge.

Written for this tool. "If the box is red, the card says France. If the box is blue, the card says Japan. The box is red. The
capital of the country on the card is" -> " Paris", not " Tokyo". Two steps are needed: an inference that selects one of two
entities (modus ponens, disjunctive syllogism, universal instantiation, ...; the wording names it), and a fact about it. So
the answer never stands in the prompt, and a model that knows the fact but does not infer scores one half.

Every pair of entities comes in both orders and with either one selected: both answers are right equally often, and so
are the first and the second entity. Entities and wordings of train, dev and test are different. The prompts are fixed;
the seed only draws which are used.

Corruptions: `premise` changes the word that selects (the answer is the foil), `rules` exchanges the two entities (likewise).
Both keep the length.
"""

from itertools import product
from typing import NamedTuple

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import SPLITS, Wording, fill, neighbours, pair, partition


class Fact(NamedTuple):
    """What is asked about the selected entity."""

    relation: str
    question: str
    answers: dict[str, str]


FACTS = [
    Fact(
        "capital",
        "The capital of the country on the card is the city of",
        {
            "France": "Paris", "Japan": "Tokyo", "Russia": "Moscow", "Egypt": "Cairo", "Italy": "Rome",
            "England": "London", "Germany": "Berlin", "Spain": "Madrid", "China": "Beijing", "Greece": "Athens",
        },
    ),
    Fact(
        "language",
        "The people in the country on the card speak",
        {
            "Portugal": "Portuguese", "Sweden": "Swedish", "Turkey": "Turkish", "Poland": "Polish", "Denmark": "Danish",
            "Norway": "Norwegian", "Hungary": "Hungarian", "Finland": "Finnish", "Korea": "Korean", "Thailand": "Thai",
        },
    ),
    Fact(
        "work",
        "The person on the card works in a",
        {
            "teacher": "school", "doctor": "hospital", "farmer": "field", "judge": "court", "cook": "kitchen",
            "priest": "church", "miner": "mine", "driver": "car", "actor": "theater", "pilot": "plane",
        },
    ),
    Fact(
        "color",
        "The color of the thing on the card is",
        {
            "blood": "red", "grass": "green", "snow": "white", "coal": "black", "chocolate": "brown",
            "corn": "yellow", "milk": "white", "sky": "blue", "night": "black", "lemon": "yellow",
        },
    ),
]  # fmt: skip


class Form(NamedTuple):
    """A form of inference; `words[0]` selects the first entity."""

    wording: Wording
    words: tuple[str, str]


FORMS = [
    Form(
        Wording("conditional", "If the box is {p}, the card says {a}. If the box is {q}, the card says {b}. The box is {word}."),
        ("red", "blue"),
    ),
    Form(
        Wording("disjunction", "The card says either {a} or {b}. It does not say the {word} of the two words."),
        ("second", "first"),
    ),
    Form(
        Wording("universal", "All cards in the {p} box say {a}, and all cards in the {q} box say {b}. The card is from the {word} box."),
        ("large", "small"),
    ),
    Form(
        Wording("exclusion", "There are two boxes. The {p} box has a card that says {a}, the {q} box one that says {b}. We do not open the {word} box, only the other one."),
        ("old", "new"),
    ),
    Form(
        Wording("order", "There were two cards. On the first it said {a}, and on the second it said {b}. We have kept the {word} card."),
        ("first", "second"),
    ),
]


def _example() -> Example: ...
