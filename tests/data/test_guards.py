import re
from dataclasses import replace
from typing import Any

import pytest

from tiny_ablation.data import guards
from tiny_ablation.data.examples import Example
from tiny_ablation.errors import DataError


def example(row_id: str, clean: str = "", **fields: Any) -> Example:
    clean = clean or f"The capital of {row_id} is"
    return Example(**{"corrupt": "", "target": " Lima", "foil": " Quito", "group": "g", **fields}, id=row_id, clean=clean)


GOOD = [example("Peru", subject="Peru", corrupt="The capital of Chad is"), example("Mali"), example("Fiji")]

BAD = {
    "distinct_ids": ([*GOOD, example("Mali", "Another prompt is")], ["Mali"]),
    "complete": (
        [*GOOD, example("no-target", target=""), example("blank", " "), example("hole", foils=(" Quito", ""))],
        ["no-target (target)", "blank (clean)", "hole (foils)"],
    ),
    "known_splits": ([*GOOD, example("odd", split="validation")], ["odd ('validation')"]),
    "one_split_a_prompt": ([*GOOD, example("x", "P is", split="train"), example("y", "P  is", split="test")], ["x, y"]),
    "distinct_prompts": ([*GOOD, example("x", "Caf\u00e9 is"), example("y", "Cafe\u0301\n is")], ["x = y"]),
    "prompts_end_in_text": ([*GOOD, example("x", "P is "), example("y", corrupt="Q is\n")], ["x, y"]),
    "corrupt_differs": ([*GOOD, example("x", "P is", corrupt="P is")], ["x"]),
    "foil_differs": ([*GOOD, example("x", foil=" Lima")], ["x"]),
    "sets_fit": (
        [
            *GOOD,
            example("fits", targets=(" Lima", " Cuzco"), foils=(" Quito",)),
            example("out", targets=(" Cuzco",)),
            example("wrong", foils=(" Oslo", " Rome")),
            example("both", targets=(" Lima", " Rome"), foils=(" Quito", " Rome")),
            example("twice", targets=(" Lima", " Lima")),
        ],
        [
            "out (target ' Lima' is not among its targets)",
            "wrong (foil ' Quito' is not among its foils)",
            "both (' Rome' stands twice in its targets and foils)",
            "twice (' Lima' stands twice in its targets and foils)",
        ],
    ),
    "subject_in_prompt": ([*GOOD, example("x", "P is", subject="Peru")], ["x ('Peru')"]),
    "answer_not_in_prompt": (
        [*GOOD, example("x", "From LIMA to"), example("y", "From Cuzco to", targets=(" Lima", " Cuzco"))],
        ["x (' Lima')", "y (' Cuzco')"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_each_guard_lists_exactly_the_bad_rows(name):
    examples, rows = BAD[name]
    with pytest.raises(DataError, match=re.escape(f": {', '.join(rows)}. ")):
        guards.check(examples)


def test_a_good_corpus_passes():
    guards.check(GOOD)


def test_an_empty_corpus_is_refused():
    with pytest.raises(DataError, match="no rows"):
        guards.check([])


def test_behaviours_that_copy_may_have_the_answer_in_the_prompt():
    guards.check(BAD["answer_not_in_prompt"][0], answer_in_prompt=True)


def test_one_prompt_in_one_explicit_split_is_only_a_duplicate():
    twice = [example("x", "P is", split="train"), example("y", "P is", split="train")]
    with pytest.raises(DataError, match="x = y"):
        guards.check(twice)


def test_a_split_beside_none_is_two_splits():
    with pytest.raises(DataError, match="two splits"):
        guards.check([example("x", "P is", split="train"), example("y", "P is")])


def test_many_bad_rows_are_counted():
    rows = [replace(row, foil=row.target) for row in (example(f"r{i}") for i in range(25))]
    with pytest.raises(DataError, match=r"25 rows .*: r0, .*, r9, \.\.\. \(25 in all\)"):
        guards.check(rows)
