"""Counterfactuals: a stated premise against what the model knows.

Written for this tool; conflicts of this kind are studied by, for example, Li et al. 2023, "Counterfactual
reasoning: Testing language models' understanding of hypothetical scenarios" (arXiv:2305.16572). "Imagine that
the Colosseum was built in the capital of France. Then it would be in the city of" -> " Paris"; the foil is
what is so in truth, " Rome". The premise names its answer only through another fact (the capital of France),
so that the answer never stands in the prompt.

Premises come in twos: where something Italian goes to France, something French goes to Italy. So every answer
is the counterfactual and the true one equally often, and a preference for an answer scores one half.
`relation` is what is asked (city, mother tongue, language, color). Subjects, answers and wordings of train,
dev and test are different. The prompts are fixed; the seed only draws which are used.

Corruptions: `premise` makes the premise say what is so in truth (the answer is the foil), `neutral` puts a
word there that names no answer ("the capital of heaven"). Both keep the length.
"""

from itertools import product
from typing import NamedTuple

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import Wording, fill, neighbours, pair, partition
from tiny_ablation.data.guards import SPLITS

OPENERS = (
    "Suppose that",
    "Imagine that",
    "Assume that",
    "Let us pretend that",
    "In a dream,",
    "In another world,",
    "Let us assume that",
    "In a story I read,",
    "Let us suppose that",
    "In a novel,",
)


class Source(NamedTuple):
    """What a premise refers to an answer by, the answer, and things of which it is true."""

    name: str
    answer: str
    things: tuple[str, ...]


class Relation(NamedTuple):
    """What is asked, how, the sources of its answers, and a word for a source's place that gives none."""

    name: str
    clauses: tuple[str, ...]
    sources: tuple[Source, ...]
    neutral: str


RELATIONS = [
    Relation(
        "city",
        (
            "{thing} was moved to the capital of {source}. Then tourists would see it in the city of",
            "{thing} was built in the capital of {source}. Then it would be in the city of",
            "{thing} was in the capital of {source}. To see it, people would have to go to the city of",
            "{thing} stood in the capital of {source}. Then visitors would travel to the city of",
            "{thing} was located in the capital of {source}. Then you would find it in the city of",
        ),
        (
            Source("France", "Paris", ("the Eiffel Tower", "the Louvre")),
            Source("Italy", "Rome", ("the Colosseum", "the Trevi Fountain")),
            Source("Germany", "Berlin", ("the Brandenburg Gate", "the Reichstag")),
            Source("England", "London", ("Big Ben", "Buckingham Palace")),
            Source("Russia", "Moscow", ("the Kremlin", "Red Square")),
            Source("Greece", "Athens", ("the Acropolis", "the Parthenon")),
            Source("Spain", "Madrid", ("the Prado museum", "the Puerta del Sol")),
            Source("China", "Beijing", ("the Forbidden City", "Tiananmen Square")),
            Source("Japan", "Tokyo", ("the Shibuya crossing", "the Ginza district")),
            Source("Egypt", "Cairo", ("Tahrir Square", "the Egyptian Museum")),
        ),
        "heaven",
    ),
    Relation(
        "mother_tongue",
        (
            "{thing} was born and raised in {source}. Then the mother tongue of {thing} would be",
            "{thing} had grown up in {source}. Then the first language of {thing} would be",
            "{thing} came from {source}. Then the language that {thing} spoke at home would be",
            "{thing} spent a whole life in {source}. Then the only language of {thing} would be",
            "{thing} went to school in {source}. Then the books of {thing} would be written in",
        ),
        (
            Source("France", "French", ("Napoleon", "Voltaire")),
            Source("Germany", "German", ("Beethoven", "Goethe")),
            Source("Spain", "Spanish", ("Picasso", "Cervantes")),
            Source("England", "English", ("Shakespeare", "Newton")),
            Source("Greece", "Greek", ("Plato", "Aristotle")),
            Source("Russia", "Russian", ("Tolstoy", "Lenin")),
            Source("Italy", "Italian", ("Dante", "Galileo")),
            Source("Poland", "Polish", ("Chopin", "Copernicus")),
            Source("China", "Chinese", ("Confucius", "Mao Zedong")),
            Source("Japan", "Japanese", ("Hirohito", "Kurosawa")),
        ),
        "heaven",
    ),
    Relation(
        "language",
        (
            "the people of {thing} all learned the language of {source}. Then everyone there would speak",
            "the schools in {thing} taught in the language of {source}. Then the children there would speak",
            "the radio in {thing} used the language of {source}. Then the news there would be in",
            "the government of {thing} chose the language of {source}. Then the laws there would be in",
            "the newspapers in {thing} used the language of {source}. Then they would be printed in",
        ),
        (
            Source("Portugal", "Portuguese", ("Portugal",)),
            Source("Sweden", "Swedish", ("Sweden",)),
            Source("Hungary", "Hungarian", ("Hungary",)),
            Source("Turkey", "Turkish", ("Turkey",)),
            Source("Norway", "Norwegian", ("Norway",)),
            Source("Finland", "Finnish", ("Finland",)),
            Source("Denmark", "Danish", ("Denmark",)),
            Source("Korea", "Korean", ("Korea",)),
            Source("Ukraine", "Ukrainian", ("Ukraine",)),
            Source("Thailand", "Thai", ("Thailand",)),
        ),
        "angels",
    ),
    Relation(
        "color",
        (
            "{thing} had the same color as {source}. Then {thing} would look very",
            "{thing} looked just like {source}. Then you would say that {thing} is bright",
            "{thing} had exactly the color of {source}. Then everyone would say that {thing} looks very",
            "{thing} took on the color of {source}. Then {thing} would be all",
            "{thing} was the color of {source}. Then {thing} would look quite",
        ),
        (
            Source("blood", "red", ("blood", "ketchup")),
            Source("grass", "green", ("grass", "spinach")),
            Source("milk", "white", ("milk", "salt")),
            Source("coal", "black", ("coal", "tar")),
            Source("chocolate", "brown", ("chocolate", "mud")),
            Source("snow", "white", ("snow", "ice")),
            Source("water", "blue", ("water", "the ocean")),
            Source("night", "black", ("night", "oil")),
            Source("silver", "gray", ("silver", "steel")),
            Source("butter", "yellow", ("butter", "corn")),
        ),
        "air",
    ),
]


def build(seed: int, corruption: str) -> list[Example]:  # noqa: ARG001 - the prompts are fixed
    """Every thing of every source with the sources beside it, in every wording of the split."""
    found = []
    for split, relation in product(SPLITS, RELATIONS):
        # Each opener before a clause; the five clauses go round twice, so a split has clauses of its own.
        pairs = zip(OPENERS, [*relation.clauses, *relation.clauses], strict=True)
        wordings = [Wording(f"{relation.name}-{i}", f"{opener} {clause}") for i, (opener, clause) in enumerate(pairs)]
        twos = neighbours(partition(relation.sources)[split])
        for wording, (truth, premise) in product(partition(wordings)[split], twos):
            corrupt = truth.name if corruption == "premise" else relation.neutral
            for thing in truth.things:  # it has the first source in truth, and the second by the premise
                example = pair(
                    "counterfactual",
                    split,
                    (
                        fill(wording, {"thing": thing, "source": premise.name}),
                        fill(wording, {"thing": thing, "source": corrupt}),
                    ),
                    (f" {premise.answer}", f" {truth.answer}"),
                    subject="source",
                    group=wording.name,
                    relation=relation.name,
                )
                found.append(example)
    return found


FAMILY = Family(
    name="counterfactual",
    description="Complete a stated premise that contradicts a known fact.",
    build=build,
    corruptions=("premise", "neutral"),
)
