"""Checks that every corpus passes before a model sees it.

They catch what makes a number wrong without making it look wrong: a test row that is also a training row, an
answer that can be copied, a prompt that ends in a space and so asks for a different token.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from tiny_ablation.data.examples import Example
from tiny_ablation.data.text import canonical, holds_word, listing, prompt_key
from tiny_ablation.errors import DataError

SPLITS = ("train", "dev", "test")


def check(examples: Sequence[Example], *, answer_in_prompt: bool = False, trailing_space: bool = False) -> None:
    """Refuse a corpus by the first guard that fails, in the order in which their messages help most.

    With `answer_in_prompt` the behaviour is to find the answer in the prompt, as in induction; with `trailing_space` prompts
    may end in white space, as those do that a chat template made.

    Raises:
        DataError: names all the rows that fail the guard, and says what to do.
    """
    if not examples:
        raise DataError("The corpus has no rows; a run needs at least one prompt with its target.")
    for rows, fault, remedy in chain(  # each guard is asked only where those before it hold: it may rely on them
        _row_faults(examples),
        _answer_faults(examples),
        () if trailing_space else _trailing_space(examples),
        () if answer_in_prompt else _copied_answers(examples),
    ):
        if rows:
            raise DataError(f"{len(rows)} {fault}: {listing(rows)}. {remedy}")


Fault = tuple[list[str], str, str]
"""The bad rows, what is wrong with them, and what to do about it."""


def _row_faults(examples: Sequence[Example]) -> Iterator[Fault]:
    """Ids, empty fields, splits, and prompts that stand twice."""
    repeated = [ids for ids in _by(examples, lambda e: e.id).values() if len(ids) > 1]
    yield [ids[0] for ids in repeated], "ids stand in several rows", "Give each row an id of its own."

    texts = lambda e: (("clean", (e.clean.strip(),)), ("target", (e.target,)), ("targets", e.targets), ("foils", e.foils))  # noqa: E731
    empty = [f"{e.id} ({name})" for e in examples for name, values in texts(e) if not all(values)]
    yield empty, "fields are empty", "Every row needs text in clean and target."

    unknown = [f"{e.id} ({e.split!r})" for e in examples if e.split and e.split not in SPLITS]
    yield unknown, "rows name an unknown split", "Use train, dev or test, or leave it out to split by hash."

    splits: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        splits[prompt_key(example.clean)].add(example.split)
    several = [e.id for e in examples if len(splits[prompt_key(e.clean)]) > 1]
    yield several, "rows put one prompt into two splits", "Keep each prompt in one split, else train leaks into test."

    # Whatever their white space and Unicode form.
    repeated = [ids for ids in _by(examples, lambda e: prompt_key(e.clean)).values() if len(ids) > 1]
    yield (
        [" = ".join(ids[:4]) for ids in repeated],
        "prompts stand in several rows",
        "Keep one row of each: a repeated prompt counts one measurement several times.",
    )


def _answer_faults(examples: Sequence[Example]) -> Iterator[Fault]:
    """Corrupt prompts, foils, sets of answers and subjects that do not fit."""
    equal = [e.id for e in examples if e.corrupt and canonical(e.corrupt) == canonical(e.clean)]
    remedy = "Change what decides the answer in corrupt, or leave corrupt out."
    yield equal, "rows have equal clean and corrupt prompts", remedy

    equal = [e.id for e in examples if canonical(e.target) == canonical(e.foil)]
    yield equal, "rows have a target equal to the foil", "Give a foil that is a wrong answer of the same kind."

    unfit = [f"{e.id} ({fault})" for e in examples if e.has_sets and (fault := _unfit(e))]
    remedy = "Give target as one of targets and foil as one of foils, and no answer twice."
    yield unfit, "rows have sets of answers that do not fit", remedy

    elsewhere = [f"{e.id} ({e.subject!r})" for e in examples if e.subject not in e.clean]
    remedy = "Write the subject exactly as in clean, or leave it out."
    yield elsewhere, "rows have a subject that does not stand in their clean prompt", remedy


def _unfit(example: Example) -> str:
    """What is wrong with the sets of a row; empty where nothing is."""
    right, wrong = ([canonical(text) for text in texts] for texts in (example.right, example.wrong))
    if canonical(example.target) not in right:
        return f"target {example.target!r} is not among its targets"
    if wrong and canonical(example.foil) not in wrong:
        return f"foil {example.foil!r} is not among its foils"
    twice = [text for text, count in Counter([*right, *wrong]).items() if count > 1]
    return f"{twice[0]!r} stands twice in its targets and foils" if twice else ""


def _trailing_space(examples: Sequence[Example]) -> Iterator[Fault]:
    """Prompts that end in white space, but for conversations, whose end the template writes."""
    yield (
        [e.id for e in examples if not e.turns and (e.clean != e.clean.rstrip() or e.corrupt != e.corrupt.rstrip())],
        "rows have a prompt that ends in white space",
        "Move the space to the start of target and foil, where tokenizers put it. Where it belongs there, as behind a chat "
        "template's generation prompt, set dataset.allow_trailing_space=true, or dataset.chat=true with the turns themselves.",
    )


def _copied_answers(examples: Sequence[Example]) -> Iterator[Fault]:
    """Prompts in which a right answer stands as a word, in any case."""
    yield (
        [f"{e.id} ({text!r})" for e in examples for text in e.right if holds_word(e.clean, text)],
        "rows have a prompt in which their answer already stands",
        "Reword them: a model can copy the answer without knowing it. Where copying is the behaviour under "
        "study, set dataset.allow_answer_in_prompt=true.",
    )


def _by(examples: Sequence[Example], key: Callable[[Example], str]) -> dict[str, list[str]]:
    """The ids of the examples under each key."""
    ids: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        ids[key(example)].append(example.id)
    return ids
