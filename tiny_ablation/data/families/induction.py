"""Induction: a random list of words begins again, and the model continues it as it went the first time.

Source: Olsson et al. 2022, "In-context Learning and Induction Heads" (arXiv:2209.11895). "... key rain horse
... key" -> " rain". `previous` is the first mention of the last word, `copied` the word after it, which is
the answer. The first word of the prompt belongs to no list: it is there because a word without a space before
it is another token.

Examples come in twos that differ in nothing but the places of target and foil in the list, so every word is
target and foil equally often, and both stand in the prompt. The words of train, dev and test are different,
and so are the lengths of the list (`template`). As nothing but chance joins the words, the two examples of a
pair are a `group` of their own.

Corruptions: `flipped` exchanges target and foil in the list (the answer is the foil), `unrepeated` replaces
the whole list by other words (nothing to continue). Both keep the length.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import Deck, Prompt, Wording, draw_pool, fill, pair, partition, prompt_id
from tiny_ablation.data.families._words import COMMON

if TYPE_CHECKING:
    import numpy as np

PERIODS = tuple(range(5, 15))


def _prompt(lead: str, words: list[str], repeated: list[str]) -> Prompt:
    """A list and its beginning again; the word after the last one's first place is marked as `copied`."""
    at = len(repeated) - 1
    names = [f"w{i}" for i in range(len(words))]
    names[at], names[at + 1] = "previous", "copied"
    text = " ".join([lead, *(f"{{{name}}}" for name in names), *repeated])
    return fill(Wording("", text), dict(zip(names, words, strict=True)), shown=("previous", "copied"))


def repeated_lists(
    family: str, words: Mapping[str, Sequence[str]], periods: Mapping[str, Sequence[int]]
) -> Callable[[int, str], list[Example]]:
    """The `build` of a family whose prompts are a list of random words that begins again.

    Each split has more than twice as many words as its longest list, and lists of at least 4 words (`periods`).
    """

    def stream(split: str, rng: "np.random.Generator", corruption: str) -> Iterator[tuple[Example, ...]]:
        """Two lists in which the words after place `at` and at place `other` are exchanged."""
        deck = Deck(words[split], rng)
        for period in cycle(periods[split]):
            at = int(rng.integers(1, period - 2))
            other = int(rng.integers(at + 2, period))
            dealt = deck.deal(2 * period + 1)
            lead, first, spare = dealt[0], dealt[1 : period + 1], dealt[period + 1 :]
            second = list(first)
            second[at + 1], second[other] = first[other], first[at + 1]
            repeated, group = first[: at + 1], prompt_id(family, " ".join(dealt))
            bundle = []
            for clean, flipped in ((first, second), (second, first)):
                corrupt = flipped if corruption == "flipped" else spare
                prompts = _prompt(lead, clean, repeated), _prompt(lead, corrupt, repeated)
                answers, template = (f" {clean[at + 1]}", f" {clean[other]}"), f"period-{period}"
                bundle.append(pair(family, split, prompts, answers, subject="copied", group=group, template=template))
            yield tuple(bundle)

    return lambda seed, corruption: draw_pool(family, seed, partial(stream, corruption=corruption))


FAMILY = Family(
    name="induction",
    description="Continue a list of random words that begins a second time.",
    build=repeated_lists("induction", partition(COMMON), partition(PERIODS)),
    seeded=True,
    corruptions=("flipped", "unrepeated"),
    answer_in_prompt=True,
)
