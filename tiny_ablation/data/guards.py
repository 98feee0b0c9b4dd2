"""Checks that every corpus passes before a model sees it.

Each guard is a pure function over examples that raises a `DataError` naming the rows, and says what to do.
They catch what makes a number wrong without making it look wrong: a test row that is also a training row, an
answer that can be copied, a prompt that ends in a space and so asks for a different token.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from tiny_ablation.data.examples import Example
from tiny_ablation.data.text import canonical, holds_word, listing, prompt_key
from tiny_ablation.errors import DataError

SPLITS = ("train", "dev", "test")


def check(examples: Sequence[Example], *, answer_in_prompt: bool = False, trailing_space: bool = False) -> None:
    """Every guard, in the order in which their messages help most.

    Args:
        examples: the whole corpus.
        answer_in_prompt: whether the behaviour is to find the answer in the prompt, as in induction.
        trailing_space: whether prompts may end in white space, as those do that a chat template made.

    Raises:
        DataError: by the first guard that fails, with all the rows that fail it.
    """
    for guard in (
        not_empty,
        distinct_ids,
        complete,
        known_splits,
        one_split_a_prompt,
        distinct_prompts,
        corrupt_differs,
        foil_differs,
        sets_fit,
        subject_in_prompt,
    ):
        guard(examples)
    if not trailing_space:
        prompts_end_in_text(examples)
    if not answer_in_prompt:
        answer_not_in_prompt(examples)


def not_empty(examples: Sequence[Example]) -> None:
    """There is at least one row."""
    if not examples:
        raise DataError("The corpus has no rows; a run needs at least one prompt with its target.")


def distinct_ids(examples: Sequence[Example]) -> None:
    """No id stands twice."""
    repeated = [ids for ids in _by(examples, lambda e: e.id).values() if len(ids) > 1]
    _refuse([ids[0] for ids in repeated], "ids stand in several rows", "Give each row an id of its own.")


def complete(examples: Sequence[Example]) -> None:
    """Prompt and target of every row hold text, and so does each answer of its sets."""
    bad = [
        f"{e.id} ({name})"
        for e in examples
        for name, values in (("clean", (e.clean.strip(),)), ("target", (e.target,)), ("targets", e.targets), ("foils", e.foils))
        if not all(values)
    ]
    _refuse(bad, "fields are empty", "Every row needs text in clean and target.")


def known_splits(examples: Sequence[Example]) -> None:
    """A split that a row asks for is one of train, dev and test."""
    bad = [f"{e.id} ({e.split!r})" for e in examples if e.split and e.split not in SPLITS]
    _refuse(bad, "rows name an unknown split", "Use train, dev or test, or leave it out to split by hash.")


def one_split_a_prompt(examples: Sequence[Example]) -> None:
    """No prompt is put into two splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        splits[prompt_key(example.clean)].add(example.split)
    bad = [e.id for e in examples if len(splits[prompt_key(e.clean)]) > 1]
    _refuse(bad, "rows put one prompt into two splits", "Keep each prompt in one split, else train leaks into test.")


def distinct_prompts(examples: Sequence[Example]) -> None:
    """No clean prompt stands twice, whatever its white space and Unicode form."""
    repeated = [ids for ids in _by(examples, lambda e: prompt_key(e.clean)).values() if len(ids) > 1]
    _refuse(
        [" = ".join(ids[:4]) for ids in repeated],
        "prompts stand in several rows",
        "Keep one row of each: a repeated prompt counts one measurement several times.",
    )


def prompts_end_in_text(examples: Sequence[Example]) -> None:
    """No prompt ends in white space, but for conversations, whose end the template writes."""
    bad = [e.id for e in examples if not e.turns and (e.clean != e.clean.rstrip() or e.corrupt != e.corrupt.rstrip())]
    _refuse(
        bad,
        "rows have a prompt that ends in white space",
        "Move the space to the start of target and foil, where tokenizers put it. Where it belongs there, as behind a chat "
        "template's generation prompt, set dataset.allow_trailing_space=true, or dataset.chat=true with the turns themselves.",
    )


def corrupt_differs(examples: Sequence[Example]) -> None:
    """No corrupt prompt is the clean one again."""
    bad = [e.id for e in examples if e.corrupt and canonical(e.corrupt) == canonical(e.clean)]
    _refuse(
        bad, "rows have equal clean and corrupt prompts", "Change what decides the answer in corrupt, or leave corrupt out."
    )


def foil_differs(examples: Sequence[Example]) -> None:
    """No foil is the target again."""
    bad = [e.id for e in examples if canonical(e.target) == canonical(e.foil)]
    _refuse(bad, "rows have a target equal to the foil", "Give a foil that is a wrong answer of the same kind.")


def sets_fit(examples: Sequence[Example]) -> None:
    """The target is one of the targets, the foil one of the foils, no answer stands twice, and none is both."""
    found = ((e.id, _unfit(e)) for e in examples if e.has_sets)
    _refuse(
        [f"{row} ({fault})" for row, fault in found if fault],
        "rows have sets of answers that do not fit",
        "Give target as one of targets and foil as one of foils, and no answer twice.",
    )


def _unfit(example: Example) -> str:
    """What is wrong with the sets of a row; empty where nothing is."""
    right, wrong = ([canonical(text) for text in texts] for texts in (example.right, example.wrong))
    if canonical(example.target) not in right:
        return f"target {example.target!r} is not among its targets"
    if wrong and canonical(example.foil) not in wrong:
        return f"foil {example.foil!r} is not among its foils"
    twice = [text for text, count in Counter([*right, *wrong]).items() if count > 1]
    return f"{twice[0]!r} stands twice in its targets and foils" if twice else ""


def subject_in_prompt(examples: Sequence[Example]) -> None:
    """The subject of a row stands in its clean prompt as written."""
    bad = [f"{e.id} ({e.subject!r})" for e in examples if e.subject not in e.clean]
    _refuse(
        bad,
        "rows have a subject that does not stand in their clean prompt",
        "Write the subject exactly as in clean, or leave it out.",
    )


def answer_not_in_prompt(examples: Sequence[Example]) -> None:
    """No right answer stands in the clean prompt as a word, in any case."""
    bad = [f"{e.id} ({text!r})" for e in examples for text in e.right if holds_word(e.clean, text)]
    _refuse(
        bad,
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


def _refuse(rows: list[str], fault: str, remedy: str) -> None:
    if rows:
        raise DataError(f"{len(rows)} {fault}: {listing(rows)}. {remedy}")
