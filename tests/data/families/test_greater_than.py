"""Greater-than means the same years whatever a tokenizer makes of numbers."""

from collections import Counter
from itertools import product

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tiny_ablation.config.schema import Span
from tiny_ablation.data.families.greater_than import FAMILY
from tiny_ablation.data.tokens import scorable

DIGITS = "0123456789"
YEARS = [f"{year:02d}" for year in range(100)]


@pytest.fixture(scope="module")
def examples():
    return FAMILY.build(0, FAMILY.corruptions[0])


def two_digit_tokenizer(whole_years: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """Byte-pair encoding as of GPT-2: " 1749" is " 17" and "49"; `whole_years` are one token."""
    merges = [("Ġ", "1"), *(("Ġ1", digit) for digit in DIGITS), *product(DIGITS, DIGITS)]
    merges += [(f"Ġ{year[:2]}", year[2:]) for year in whole_years]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *dict.fromkeys(a + b for a, b in merges)]
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def served(examples, tokenizer):
    return scorable(examples, tokenizer, opening=(), span=Span.first)


def decoded(tokenizer, ids):
    return [tokenizer.decode([i]) for i in ids]


def test_right_are_the_years_above_the_start_and_wrong_are_all_others(examples):
    for e in examples:
        century, start = e.subject[:2], e.subject[2:]
        assert e.clean.endswith(century)
        assert all(int(century + year) > int(e.subject) for year in e.targets)
        assert all(int(century + year) <= int(e.subject) for year in e.foils)
        assert sorted([*e.targets, *e.foils]) == YEARS
        assert start.endswith("9")
        assert e.target in e.targets
        assert e.foil in e.foils


def test_as_many_endings_are_right_as_wrong_over_the_whole_pool(examples):
    decades = Counter(e.subject[2] for e in examples)
    assert set(decades) == set("1234567")
    assert max(decades.values()) - min(decades.values()) <= 2
    right, wrong = sum(len(e.targets) for e in examples), sum(len(e.foils) for e in examples)
    assert abs(right - wrong) < 0.02 * (right + wrong)


def test_two_digits_that_are_one_token_are_scored_year_by_year(examples):
    tokenizer = two_digit_tokenizer()
    assert decoded(tokenizer, tokenizer(" 1749").input_ids) == [" 17", "49"]
    found = served(examples, tokenizer)
    assert not found.unscorable
    for row in found.examples:
        assert sorted(decoded(tokenizer, row.right_ids)) == sorted(row.example.targets)
        assert sorted(decoded(tokenizer, row.wrong_ids)) == sorted(row.example.foils)
        assert len(row.target_ids) == 1


def test_years_that_are_one_token_with_their_century_are_left_out(examples):
    tokenizer = two_digit_tokenizer(("1400", "1490"))
    found = served(examples, tokenizer)
    assert len(found.examples) == len(examples)  # none of them stands for its set
    for row in found.examples:
        of_century = row.example.subject.startswith("14")
        assert ("90" in decoded(tokenizer, row.right_ids)) != of_century
        assert ("00" in decoded(tokenizer, row.wrong_ids)) != of_century
    some = two_digit_tokenizer(tuple(e.subject[:2] + e.target for e in examples[:1]))
    assert [row.id for row in served(examples[:1], some).unscorable] == [examples[0].id]


def test_digits_that_are_tokens_are_scored_by_the_decade_and_no_decade_is_of_both_sets(examples, smollm2):
    for row in served(examples, smollm2.tokenizer).examples:
        decade = int(row.example.subject[2])
        assert decoded(smollm2.tokenizer, row.right_ids) == [str(d) for d in range(decade + 1, 10)]
        assert decoded(smollm2.tokenizer, row.wrong_ids) == [str(d) for d in range(decade + 1)]


def test_every_row_is_servable_by_the_default_model(examples, smollm2):
    assert not served(examples, smollm2.tokenizer).unscorable
