"""What the behaviours share: wordings with named slots, held-out pools, balanced draws.

A family writes its wordings as format strings. Filling one in says at once where every named word stands, so
the marks of an example are right by construction instead of being searched for afterwards.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tiny_ablation.config.seeds import generator
from tiny_ablation.data.examples import Example, Span
from tiny_ablation.data.guards import SPLITS

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

SIZES = {"train": 180, "dev": 60, "test": 60}
"""Examples of a generated pool, the same for every seed."""

_TURN = ("train", "train", "dev", "train", "test")
"""The split of every item of a pool in turn: 60/20/20, whatever the pool is sorted by."""


class Wording(NamedTuple):
    """A named format string; its slots become marks."""

    name: str
    text: str


@dataclass(frozen=True)
class Prompt:
    """A filled-in wording and where its slots stand in it."""

    text: str
    marks: dict[str, Span]


def fill(wording: Wording, slots: dict[str, str], shown: Sequence[str] = ()) -> Prompt:
    """The prompt that a wording makes, with marks: each slot's first place (or of those `shown`), and `end`, the last word.

    Slots that the wording does not use are ignored.
    """
    text, marks = "", {}
    for literal, slot, _, _ in Formatter().parse(wording.text):
        text += literal
        if slot is None:
            continue
        if not shown or slot in shown:
            marks.setdefault(slot, (len(text), len(text) + len(slots[slot])))
        text += slots[slot]
    marks["end"] = (len(text) - len(text.split()[-1]), len(text))
    return Prompt(text, marks)


def prompt_id(family: str, prompt: str) -> str:
    """A name for a prompt that is the same for every seed and corruption."""
    return f"{family}-{hashlib.sha256(prompt.encode()).hexdigest()[:12]}"


def pair(
    family: str,
    split: str,
    prompts: tuple[Prompt, Prompt],
    answers: tuple[str, str],
    *,
    subject: str,
    group: str,
    template: str = "",
    relation: str = "",
) -> Example:
    """An example, named by its clean prompt; `prompts` are clean and corrupt, `answers` target and foil with their spaces.

    The slot `subject` decides the answer and is marked as `subject` too; `template` is the wording's id, or else `group`.
    """
    clean, corrupt = prompts
    marks = [{"subject": p.marks[subject], **p.marks} for p in prompts]
    start, end = clean.marks[subject]
    return Example(
        id=prompt_id(family, clean.text),
        clean=clean.text,
        corrupt=corrupt.text,
        target=answers[0],
        foil=answers[1],
        group=group,
        template=template or group,
        subject=clean.text[start:end],
        relation=relation,
        marks=marks[0],
        corrupt_marks=marks[1],
        split=split,
    )


def partition(items: Sequence[T]) -> dict[str, tuple[T, ...]]:
    """The items held out for each split, 60/20/20 and never twice; the same whatever the seed."""
    return {s: tuple(x for i, x in enumerate(items) if _TURN[i % len(_TURN)] == s) for s in SPLITS}


def neighbours(items: Sequence[T]) -> list[tuple[T, T]]:
    """Each item with the next one and the reverse, around the ring, so that all are first equally often."""
    ring = list(zip(items, [*items[1:], items[0]], strict=True))
    ring = ring[:1] if len(items) == 2 else ring  # or the only pair would come twice
    return [both for a, b in ring for both in ((a, b), (b, a))]


class Deck:
    """Deals items in random order and shuffles again when all were dealt: all come up equally often."""

    def __init__(self, items: Sequence[str], rng: "np.random.Generator") -> None:
        self._items = tuple(items)
        self._rng = rng
        self._left: list[str] = []

    def deal(self, n: int) -> list[str]:
        """The next `n` items, all different; an item that would come twice waits for the next deal."""
        dealt: list[str] = []
        while len(dealt) < n:
            fresh = next((x for x in self._left if x not in dealt), None)
            if fresh is None:
                self._left += [self._items[i] for i in self._rng.permutation(len(self._items))]
            else:
                dealt.append(fresh)
                self._left.remove(fresh)
        return dealt

    def one(self) -> str:
        """The next item."""
        return self.deal(1)[0]


Stream = Callable[[str, "np.random.Generator"], Iterator[tuple[Example, ...]]]
"""`stream(split, rng)`: an endless draw of bundles; the examples of a bundle balance each other."""


def draw_pool(family: str, seed: int, stream: Stream) -> list[Example]:
    """The pool of one seed: `SIZES` distinct examples per split, in whole bundles."""
    pool: list[Example] = []
    for split, size in SIZES.items():
        drawn: dict[str, Example] = {}
        for bundle in stream(split, generator(seed, "family", family, split)):
            prompts = {e.clean: e for e in bundle}
            if len(prompts) == len(bundle) and not prompts.keys() & drawn.keys():
                drawn |= prompts
            if len(drawn) >= size:
                break
        pool += drawn.values()
    return pool
