"""Argument recall: the docstring of a Python function lists its arguments in the order of the signature.

Source: Heimersheim and Janiak 2023, "A circuit for Python docstrings in a 4-layer attention-only
transformer". After "def port(self, load, size, files, last):" and lines that describe `load` and `size`,
":param" goes on with " files". The argument described last stands in the signature as `previous_def` and in
the docstring as `previous_doc`; `answer_def` is the answer in the signature, and the foil is an argument that
comes later.

Examples come in twos whose signatures have target and foil in each other's place, so every name is target and
foil equally often. Names are unrelated everyday words. The words of train, dev and test are different, and so
are the markers of an argument (":param", "@param", ...). `template` adds the number of described arguments to
the marker.

Corruptions: `flipped` exchanges target and foil in the signature (the answer is the foil), `random_def`
writes other names into the signature, `random_doc` other names into the docstring. All keep the length.
"""

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import Deck, Prompt, Wording, draw_pool, fill, pair, partition
from tiny_ablation.data.families._words import COMMON

if TYPE_CHECKING:
    import numpy as np

MARKERS = {"param": ":param", "at_param": "@param", "arg": ":arg", "parameter": ":parameter", "dash": "-"}
DESCRIBED = (2, 3)


class Words(NamedTuple):
    """The words of a function: its name, its arguments, other names for them, and the descriptions."""

    function: str
    arguments: list[str]
    others: list[str]
    prose: list[str]


def _prompt(marker: str, signature: list[str], described: list[str], words: Words) -> Prompt:
    """A function that describes its first arguments; the next one is the answer."""
    n = len(described)
    arguments = [f"a{i}" for i in range(len(signature))]
    arguments[n - 1], arguments[n] = "previous_def", "answer_def"
    named = ["{previous_doc}" if name == described[-1] else name for name in described]
    prose = [" ".join(words.prose[2 * i : 2 * i + 2]) for i in range(n + 1)]
    lines = [f"    {marker} {name}: {text}" for name, text in zip(named, prose[1:], strict=True)]
    head = f"def {words.function}(self, {', '.join(f'{{{a}}}' for a in arguments)}):"
    text = "\n".join([head, f'    """{prose[0]}', "", *lines, f"    {marker}"])
    slots = dict(zip(arguments, signature, strict=True)) | {"previous_doc": described[-1]}
    return fill(Wording(marker, text), slots, shown=("previous_def", "answer_def", "previous_doc"))


def _stream(split: str, rng: "np.random.Generator", corruption: str) -> Iterator[tuple[Example, ...]]:
    """Functions with target and foil in their places in the signature, and in each other's."""

    def example(style: tuple[str, int], words: Words, target: str, foil: str) -> Example:
        name, n = style
        described, marker = words.arguments[:n], MARKERS[name]
        signature = [*described, target, foil]
        clean = _prompt(marker, signature, described, words)
        if corruption == "flipped":
            corrupt = _prompt(marker, [*described, foil, target], described, words)
        elif corruption == "random_def":
            corrupt = _prompt(marker, words.others, described, words)
        else:
            corrupt = _prompt(marker, signature, words.others[:n], words)
        answers = (f" {target}", f" {foil}")
        return pair("docstring", split, (clean, corrupt), answers, subject="answer_def", group=f"{name}-{n}")

    deck = Deck(partition(COMMON)[split], rng)
    markers = partition(tuple(MARKERS))[split]
    for style in cycle([(marker, n) for n in DESCRIBED for marker in markers]):
        size = style[1] + 2
        function, *rest = deck.deal(1 + 2 * size + 2 * (size - 1))
        words = Words(function, rest[:size], rest[size : 2 * size], rest[2 * size :])
        target, foil = words.arguments[style[1] :]
        yield example(style, words, target, foil), example(style, words, foil, target)


FAMILY = Family(
    name="docstring",
    description="Name the next argument of a Python function in its docstring.",
    build=lambda seed, corruption: draw_pool("docstring", seed, partial(_stream, corruption=corruption)),
    seeded=True,
    corruptions=("flipped", "random_def", "random_doc"),
    answer_in_prompt=True,
)
