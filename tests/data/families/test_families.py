"""What every behaviour that ships with the tool promises about its examples."""

import random
from collections import Counter, defaultdict
from functools import cache
from importlib import import_module

import numpy as np
import pytest

from tiny_ablation.data.corpus import family_names
from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family
from tiny_ablation.data.guards import check
from tiny_ablation.data.text import holds_word

FAMILIES = family_names()
GENERATED = ["docstring", "greater_than", "induction", "induction_tokens", "ioi", "pronoun", "sva"]
HELD_OUT = [*GENERATED, "counterfactual", "logic", "negation"]
FEW_WORDS = {"greater_than", "induction_tokens", "negation", "pronoun", "sva"}  # all splits share the answers
ONE_DIRECTION = {"facts", "greater_than"}  # what is asked has no mirror image in which target and foil change places


def family(name: str) -> Family:
    return import_module(f"tiny_ablation.data.families.{name}").FAMILY


@cache
def build(name: str, corruption: str = "", seed: int = 0) -> tuple[Example, ...]:
    return tuple(family(name).build(seed, corruption or family(name).corruptions[0]))


def corruptions(names: list[str]) -> list[tuple[str, str]]:
    return [(name, corruption) for name in names for corruption in family(name).corruptions]


def by_split(examples: tuple[Example, ...]) -> dict[str, list[Example]]:
    parts = defaultdict(list)
    for example in examples:
        parts[example.split].append(example)
    return parts


def test_the_families_of_the_documentation_are_all_there():
    assert set(FAMILIES) >= {*HELD_OUT, "facts"}
    assert [name for name in FAMILIES if family(name).seeded] == GENERATED


@pytest.mark.parametrize(("name", "corruption"), corruptions(FAMILIES))
def test_a_family_passes_every_guard_with_200_distinct_prompts(name, corruption):
    examples = build(name, corruption)
    check(examples, answer_in_prompt=family(name).answer_in_prompt)
    assert len({e.clean for e in examples}) == len(examples) >= 200
    assert all(e.group and e.template and e.subject for e in examples)


@pytest.mark.parametrize("name", [name for name in FAMILIES if family(name).answer_in_prompt])
def test_where_the_answer_is_to_be_found_in_the_prompt_it_stands_there_with_the_foil(name):
    assert all(holds_word(e.clean, e.target) and holds_word(e.clean, e.foil) for e in build(name))


@pytest.mark.parametrize("name", HELD_OUT)
def test_train_dev_and_test_share_no_wording_and_no_subject(name):
    parts = by_split(build(name))
    assert set(parts) == {"train", "dev", "test"}
    for field in ("template", "group"):
        held = [{getattr(e, field) for e in part} for part in parts.values()]
        assert sum(map(len, held)) == len(set.union(*held))


@pytest.mark.parametrize("name", [n for n in HELD_OUT if n not in FEW_WORDS])
def test_no_answer_of_train_is_one_of_test(name):
    parts = by_split(build(name))
    assert not {e.target for e in parts["train"]} & {e.target for e in parts["test"]}


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("ioi", "place"),
        ("ioi", "object"),
        ("ioi", "s2"),
        ("pronoun", "name"),
        ("pronoun", "place"),
        ("sva", "subject"),
        ("greater_than", "event"),
        ("negation", "thing"),
        ("counterfactual", "thing"),
        ("docstring", "previous_def"),
    ],
)
def test_no_word_of_train_is_one_of_test(name, mark):
    words = {split: {e.clean[slice(*e.marks[mark])] for e in part} for split, part in by_split(build(name)).items()}
    assert min(map(len, words.values())) > 1
    assert not words["train"] & words["test"]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ONE_DIRECTION])
def test_every_answer_is_as_often_right_as_wrong_in_each_split(name):
    for part in by_split(build(name)).values():
        assert Counter(e.target for e in part) == Counter(e.foil for e in part)


@pytest.mark.parametrize("name", GENERATED)
def test_a_pool_has_its_size_and_spreads_evenly_over_its_wordings(name):
    parts = by_split(build(name))
    for split, size in (("train", 180), ("dev", 60), ("test", 60)):
        assert size <= len(parts[split]) <= size + 3
        wordings = Counter(e.template.rsplit("-", 1)[0] for e in parts[split])
        assert max(wordings.values()) <= 1.5 * min(wordings.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_seed_draws_the_prompts_of_generators_and_of_nothing_else(name):
    again = tuple(family(name).build(0, family(name).corruptions[0]))
    assert again == build(name)
    other = {e.clean for e in build(name, seed=1)}
    shared = sum(e.clean in other for e in again) / len(again)
    assert shared < 0.25 if family(name).seeded else shared == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_no_global_random_state_is_used(name):
    before = random.getstate(), np.random.get_state()[1].tolist()
    family(name).build(5, family(name).corruptions[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize(("name", "corruption"), [c for n in FAMILIES for c in corruptions([n])[1:]])
def test_a_corruption_changes_the_corrupt_prompts_and_nothing_else(name, corruption):
    def clean_part(examples: tuple[Example, ...]) -> list[tuple[str, ...]]:
        return [(e.id, e.clean, e.target, e.foil, e.template, e.split) for e in examples]

    assert clean_part(build(name, corruption)) == clean_part(build(name))
    assert [e.corrupt for e in build(name, corruption)] != [e.corrupt for e in build(name)]


@pytest.mark.parametrize(
    ("name", "corruption"),
    [
        ("ioi", "flipped"),
        ("pronoun", "gender"),
        ("sva", "number"),
        ("induction", "flipped"),
        ("induction_tokens", "flipped"),
        ("docstring", "flipped"),
        ("negation", "polarity"),
        ("negation", "predicate"),
        ("logic", "premise"),
        ("logic", "rules"),
    ],
)
def test_the_corrupt_prompt_of_a_flipping_corruption_is_asked_with_target_and_foil_exchanged(name, corruption):
    examples = build(name, corruption)
    answers = {e.clean: (e.target, e.foil) for e in examples}
    assert all(answers[e.corrupt] == (e.foil, e.target) for e in examples)


@pytest.mark.parametrize(("name", "corruption"), corruptions(HELD_OUT))
def test_marks_hold_whole_words_and_differ_from_the_corrupt_prompt_only_where_it_does(name, corruption):
    for e in build(name, corruption):
        assert e.clean[slice(*e.marks["subject"])] == e.subject
        assert e.marks.keys() == e.corrupt_marks.keys() >= {"subject", "end"}
        for prompt, marks in ((e.clean, e.marks), (e.corrupt, e.corrupt_marks)):
            assert marks["end"][1] == len(prompt)
            for start, end in marks.values():
                assert prompt[start:end]
                assert prompt[start:end].strip() == prompt[start:end]
                assert not prompt[start - 1 : start].isalnum()
                assert not prompt[end : end + 1].isalnum()


def mark(example: Example, name: str) -> str:
    return example.clean[slice(*example.marks[name])]


def test_ioi_marks_the_two_people_by_what_they_do():
    for e in build("ioi"):
        assert mark(e, "s1") == mark(e, "s2") == e.foil[1:]
        assert mark(e, "io") == e.target[1:]
        io_first = e.marks["io"] < e.marks["s1"] < e.marks["s2"]
        assert e.template.endswith("-abba" if io_first else "-baba")


def test_ioi_has_both_orders_equally_often_in_every_wording():
    orders = Counter(tuple(e.template.rsplit("-", 1)) for e in build("ioi"))
    assert all(orders[wording, "abba"] == orders[wording, "baba"] for wording, _ in orders)


def test_ioi_names_are_balanced():
    for part in by_split(build("ioi")).values():
        times = Counter(e.target for e in part).values()
        assert max(times) - min(times) <= 2


def test_ioi_abc_names_three_other_people():
    for e in build("ioi", "abc"):
        new = {e.corrupt[slice(*e.corrupt_marks[m])] for m in ("io", "s1", "s2")}
        assert len(new) == 3
        assert not new & {e.target[1:], e.foil[1:]}


def test_sva_pairs_every_number_of_the_subject_with_every_number_of_the_attractor():
    kinds = Counter(e.template.rsplit("-", 1)[1] for e in build("sva"))
    assert kinds["congruent"] == kinds["incongruent"] >= 50
    assert kinds["simple"] >= 50
    for e in build("sva"):
        assert ("attractor" in e.marks) == (not e.template.endswith("-simple"))


@pytest.mark.parametrize("name", ["induction", "induction_tokens"])
def test_induction_continues_after_the_first_mention_of_the_last_word(name):
    for e in build(name):
        words = e.clean.split()
        assert mark(e, "previous") == mark(e, "end") == words[-1]
        assert mark(e, "copied") == words[words.index(words[-1]) + 1] == e.target[1:]
        assert words.count(e.target[1:]) == words.count(e.foil[1:]) == 1


@pytest.mark.parametrize("name", ["induction", "induction_tokens"])
def test_induction_unrepeated_has_nothing_to_continue(name):
    for e in build(name, "unrepeated"):
        assert len(set(e.corrupt.split())) == len(e.corrupt.split())


def test_docstring_asks_for_the_argument_after_the_one_described_last():
    for e in build("docstring"):
        arguments = e.clean.split("(self, ")[1].split(")")[0].split(", ")
        assert mark(e, "previous_def") == mark(e, "previous_doc")
        assert arguments[arguments.index(mark(e, "previous_def")) + 1 :] == [e.target[1:], e.foil[1:]]
        assert mark(e, "answer_def") == e.target[1:]


def test_negation_cannot_be_done_by_the_predicate_or_by_the_polarity_alone():
    for cue in ("predicate", "polarity"):
        answers = defaultdict(Counter)
        for e in build("negation"):
            answers[mark(e, "thing"), mark(e, "result"), mark(e, cue)][e.target] += 1
        assert all(sorted(count.values())[0] * 2 == sum(count.values()) for count in answers.values())


def test_logic_selects_either_entity_in_either_order_equally_often():
    for e in build("logic"):
        assert e.marks["a"] < e.marks["b"]
    groups = Counter((e.template, frozenset((e.target, e.foil)), e.target) for e in build("logic"))
    assert set(groups.values()) == {2}


def test_counterfactual_premises_come_in_twos():
    exchanged = Counter((e.template, e.target, e.foil) for e in build("counterfactual"))
    assert all(exchanged[template, foil, target] == n for (template, target, foil), n in exchanged.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_are_one_token_in_context_under_the_default_tokenizer(name, smollm2):
    ids = {text: smollm2.tokenizer(text).input_ids for text in {e.clean for e in build(name)}}
    for e in build(name):
        for answer in (e.target, e.foil):
            together = smollm2.tokenizer(e.clean + answer).input_ids
            n_tokens = len(answer) if e.by_first_token else 1  # a digit each
            assert together[:-n_tokens] == ids[e.clean]


@pytest.mark.parametrize(("name", "corruption"), corruptions(FAMILIES))
def test_pairs_have_equal_length_under_the_default_tokenizer(name, corruption, smollm2):
    for e in build(name, corruption):
        assert len(smollm2.tokenizer(e.clean).input_ids) == len(smollm2.tokenizer(e.corrupt).input_ids)


@pytest.mark.parametrize("name", HELD_OUT)
def test_marks_decode_to_their_words_under_the_default_tokenizer(name, smollm2):
    for e in build(name)[::7]:
        encoded = smollm2.tokenizer(e.clean, return_offsets_mapping=True)
        for start, end in e.marks.values():
            inside = [i for i, (a, b) in enumerate(encoded.offset_mapping) if a < end and b > start]
            decoded = smollm2.tokenizer.decode([encoded.input_ids[i] for i in inside])
            assert e.clean[start:end] in decoded
            assert len(decoded) <= end - start + 1
