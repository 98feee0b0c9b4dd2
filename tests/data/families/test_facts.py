from collections import Counter

import pytest

from tiny_ablation.config.schema import DatasetConfig, Span, Split
from tiny_ablation.data.corpus import Corpus, load_corpus, select
from tiny_ablation.data.text import holds_word
from tiny_ablation.data.tokens import tokenize


@pytest.fixture(scope="module")
def facts() -> Corpus:
    return load_corpus(DatasetConfig(name="facts", family="facts"), seed=0)


def test_there_are_enough_distinct_facts_wordings_and_relations(facts):
    examples = facts.examples
    assert len({(e.clean, e.corrupt) for e in examples}) == len({e.clean for e in examples}) == len(examples) >= 330
    assert len({e.relation for e in examples}) >= 12
    assert len({e.group for e in examples}) >= 24


def test_a_group_is_one_wording_of_one_relation(facts):
    assert {e.group: e.template for e in facts.examples}.items() == {(e.group, e.template) for e in facts.examples}
    assert {e.group: e.relation for e in facts.examples}.items() == {(e.group, e.relation) for e in facts.examples}


def test_both_prompts_are_the_template_with_a_subject(facts):
    for e in facts.examples:
        before, after = e.template.split("{subject}")
        assert e.clean == before + e.subject + after
        assert e.corrupt.startswith(before)
        assert e.corrupt.endswith(after)


def test_the_foil_is_the_answer_of_the_corrupt_prompt(facts):
    known: dict[str, set[str]] = {}
    for e in facts.examples:
        known.setdefault(e.clean, set()).add(e.target)
        known.setdefault(e.corrupt, set()).add(e.foil)
    assert {prompt: answers for prompt, answers in known.items() if len(answers) > 1} == {}


def test_no_answer_dominates_and_none_stands_in_its_prompt(facts):
    target, count = Counter(e.target for e in facts.examples).most_common(1)[0]
    assert count <= 0.05 * len(facts.examples), target
    assert not [e.id for e in facts.examples if holds_word(e.clean, e.foil)]


def test_the_default_draw_covers_every_relation(facts):
    relations = {e.relation for e in facts.examples}
    for seed in range(3):
        drawn = select(facts, Split.all, 32, seed)
        assert {e.relation for e in drawn} == relations
        assert len({e.group for e in drawn}) == 32


def test_the_seed_draws_examples_but_writes_none(facts):
    assert not facts.seeded
    assert load_corpus(DatasetConfig(name="facts", family="facts"), seed=1) == facts


def test_pairs_have_equal_lengths_and_one_token_answers_under_the_default_model(facts, smollm2):
    for row in tokenize(facts.examples, smollm2.tokenizer, opening=(), span=Span.first):
        assert len(row.clean_ids) == len(row.corrupt_ids), row.example.id
        assert row.marks["subject"], row.example.id
        assert row.corrupt_marks["subject"], row.example.id
