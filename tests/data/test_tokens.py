from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tiny_ablation.config.schema import Span
from tiny_ablation.data import tokens
from tiny_ablation.data.examples import Example
from tiny_ablation.data.tokens import Unscorable, each_scored, scorable, tokenize
from tiny_ablation.errors import DataError
from tiny_ablation.models.sources.toy_tokenizer import toy_tokenizer

WORDS = [
    "The",
    "Ġcapital",
    "Ġof",
    "ĠPeru",
    "ĠChad",
    "Ġis",
    "Ġisland",
    "ĠLima",
    "ĠQuito",
    "ĠNew",
    "ĠDelhi",
    "ĠOld",
    "!",
    "<unk>",
    "<s>",
]


def word_tokenizer(bos: bool = True, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    """One token a word, its leading space included; `~` is no token at all."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace("~", "")
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 14)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>" if bos else None, unk_token="<unk>")


def example(row_id: str = "a", **fields: Any) -> Example:
    base: dict[str, Any] = {
        "clean": "The capital of Peru is",
        "corrupt": "The capital of Chad is",
        "target": " Lima",
        "foil": " Quito",
        "group": "g",
        "subject": "Peru",
    }
    return Example(**{**base, **fields}, id=row_id)


def scored(*examples: Example, span: Span = Span.first, bos: bool = False, tokenizer=None):
    return tokenize(examples, tokenizer or word_tokenizer(), opening=(14,) * bos, span=span)


def test_a_pair_becomes_ids_and_marked_positions():
    [row] = scored(example())
    assert row.clean_ids == (0, 1, 2, 3, 5)
    assert row.corrupt_ids == (0, 1, 2, 4, 5)
    assert (row.target_ids, row.foil_ids, row.n_tokens) == ((7,), (8,), 5)
    assert row.marks == {"subject": (3,), "last": (4,)}
    assert row.corrupt_marks == {"subject": (3,), "last": (4,)}


@pytest.mark.parametrize("adds_bos", [False, True])
def test_the_run_alone_decides_on_the_opening(adds_bos):
    tokenizer = word_tokenizer(adds_bos=adds_bos)
    [without] = scored(example(), tokenizer=tokenizer)
    [with_bos] = scored(example(), tokenizer=tokenizer, bos=True)
    assert without.clean_ids == (0, 1, 2, 3, 5)
    assert with_bos.clean_ids == (14, 0, 1, 2, 3, 5)
    assert with_bos.corrupt_ids == (14, 0, 1, 2, 4, 5)
    assert with_bos.target_ids == (7,)
    assert with_bos.marks == {"subject": (4,), "last": (5,)}


def test_without_a_corrupt_prompt_there_is_nothing_of_it():
    [row] = scored(example(corrupt=""), bos=True)
    assert (row.corrupt_ids, row.corrupt_marks) == ((), {})


def test_rows_keep_their_order_and_no_rows_are_fine():
    assert [row.example.id for row in scored(example("b"), example("a", clean="The capital is", subject=""))] == ["b", "a"]
    assert scored() == []


def test_a_long_answer_is_refused_at_first_with_its_tokens_and_the_way_out():
    with pytest.raises(DataError) as error:
        scored(example("ok"), example("india", target=" New Delhi", foil=" Old Delhi"))
    text = str(error.value)
    assert text.startswith("1 of 2 examples")
    assert "india: target ' New Delhi' is 2 tokens (' New' ' Delhi') and foil ' Old Delhi' is 2 tokens" in text
    assert "metrics.span=full" in text
    assert "ok:" not in text


def test_a_long_answer_is_scored_in_full():
    [row] = scored(example(target=" New Delhi", foil=" Quito"), span=Span.full)
    assert (row.target_ids, row.foil_ids) == ((9, 10), (8,))


@pytest.mark.parametrize("span", list(Span))
def test_an_answer_that_changes_its_prompt_is_refused(span):
    with pytest.raises(DataError, match=r"a: target 'land' changes the tokens.*did you mean ' land'") as error:
        scored(example(target="land"), span=span)
    assert "metrics.span" not in str(error.value)


def test_punctuation_needs_no_space():
    [row] = scored(example(target="!"))
    assert row.target_ids == (12,)


@pytest.mark.parametrize("span", list(Span))
def test_answers_that_the_model_cannot_tell_apart_are_refused(span):
    with pytest.raises(DataError, match="a: target ' Oslo' and foil ' Rome' are the same tokens"):
        scored(example(target=" Oslo", foil=" Rome"), span=span)


SETS: dict[str, Any] = {"targets": (" Lima", " Delhi"), "foils": (" Quito", "!", " Chad")}


def test_sets_of_answers_become_sets_of_tokens():
    one, several = scored(example(), example("b", **SETS))
    assert (one.right_ids, one.wrong_ids) == ((7,), (8,))
    assert (several.right_ids, several.wrong_ids) == ((7, 10), (4, 8, 12))
    assert (several.target_ids, several.foil_ids) == ((7,), (8,))


def test_an_answer_of_a_set_has_to_be_one_token_unless_its_first_one_counts():
    long: dict[str, Any] = {"targets": (" Lima", " New Delhi")}
    with pytest.raises(DataError, match=r"target ' New Delhi' is 2 tokens \(' New' ' Delhi'\)") as error:
        scored(example(**long))
    assert "metrics.span=full" not in str(error.value)  # which scores no sets
    [row] = scored(example(**long, by_first_token=True))
    assert row.right_ids == (7, 9)


def test_an_answer_that_changes_the_prompt_is_left_out_of_a_set_only_where_the_first_token_counts():
    glued: dict[str, Any] = {"targets": (" Lima", "land")}
    with pytest.raises(DataError, match="target 'land' changes the tokens of the prompt"):
        scored(example(**glued))
    [row] = scored(example(**glued, by_first_token=True))
    assert row.right_ids == (7,)
    with pytest.raises(DataError, match="target 'land' changes the tokens"):  # the one that stands for the set
        scored(example(target="land", **glued, by_first_token=True))


def test_sets_that_share_a_token_are_refused():
    shared: dict[str, Any] = {"targets": (" Lima", " New Delhi"), "foils": (" Quito", " New")}
    with pytest.raises(DataError, match="a: ' New' begins right and wrong answers"):
        scored(example(**shared, by_first_token=True))


def test_sets_are_not_scored_in_full():
    with pytest.raises(DataError, match=r"b: it has sets of answers.*metrics\.span=first only"):
        scored(example(), example("b", **SETS), span=Span.full)


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(DataError, match="a: its prompt has no tokens"):
        scored(example(clean="~", subject=""))
    with pytest.raises(DataError, match="a: its corrupt prompt has no tokens"):
        scored(example(corrupt="~"))


def test_servable_keeps_the_good_and_gives_a_reason_for_the_rest():
    rows = [example("x", target=" New Delhi"), example("y"), example("z", foil="land")]
    served = scorable(rows, word_tokenizer(), opening=(), span=Span.first)
    assert [row.example.id for row in served.examples] == ["y"]
    assert [(row.id, row.several_tokens) for row in served.unscorable] == [("x", True), ("z", False)]


def test_all_bad_rows_are_counted():
    with pytest.raises(DataError, match=r"^12 of 12 .*r9: .*; \.\.\. \(12 in all\)"):
        scored(*[example(f"r{i}", target=" New Delhi") for i in range(12)])


class _PythonTokenizer:
    """A tokenizer that does not say which characters a token covers."""

    is_fast = False
    bos_token_id = None

    def __call__(self, texts, **options):
        assert not options["return_offsets_mapping"]
        return {"input_ids": word_tokenizer()(texts, add_special_tokens=False)["input_ids"]}


def test_a_tokenizer_without_offsets_marks_the_last_position_alone():
    [row] = scored(example(), tokenizer=_PythonTokenizer())
    assert (row.clean_ids, row.marks) == ((0, 1, 2, 3, 5), {"last": (4,)})


@pytest.mark.parametrize(("span", "bos", "fits"), [(Span.first, False, 5), (Span.first, True, 6), (Span.full, False, 5)])
def test_a_prompt_longer_than_the_model_reads_cannot_be_scored(span, bos, fits):
    serve = lambda context: scorable(  # noqa: E731
        [example()], word_tokenizer(), opening=(14,) * bos, span=span, context=context
    )
    assert len(serve(fits).examples) == len(serve(None).examples) == 1
    [row] = serve(fits - 1).unscorable
    assert row.reason == f"it is {fits} tokens long, and the model was made for {fits - 1}"


def test_a_whole_answer_counts_but_for_its_last_token():
    long = example(target=" Peru is Chad", foil=" island")
    serve = lambda context: scorable(  # noqa: E731
        [long], word_tokenizer(), opening=(), span=Span.full, context=context
    )
    assert serve(7).examples
    assert "7 tokens" in serve(6).unscorable[0].reason


def test_rows_are_encoded_some_at_a_time_and_none_is_kept(monkeypatch):
    monkeypatch.setattr(tokens, "_CHUNK", 4)
    sizes: list[int] = []

    class Watched(_PythonTokenizer):
        def __call__(self, texts, **options):
            sizes.append(len(texts))
            return super().__call__(texts, **options)

    rows = [example(f"r{i}", target="land" if i == 5 else " Lima") for i in range(10)]
    served = each_scored(rows, Watched(), opening=(), span=Span.first)
    first = next(served)
    assert max(sizes) == 8  # of four rows, each with two answers
    assert sum(sizes) == 16
    again = [first, *served]
    assert [row.id if isinstance(row, Unscorable) else row.example.id for row in again] == [f"r{i}" for i in range(10)]
    assert isinstance(again[5], Unscorable)


def test_answers_in_scripts_without_spaces_are_shown_as_text_and_get_no_space():
    row = example(clean="日本の首都は", corrupt="", subject="日本", target="東京", foil="大阪")
    [fault] = scorable([row], toy_tokenizer(), opening=(), span=Span.first).unscorable
    assert fault.reason.startswith("target '東京' is 6 tokens ('<part>' '<part>'")
    assert "did you mean" not in fault.reason
    [scored_row] = tokenize([row], toy_tokenizer(), opening=(), span=Span.full)
    assert scored_row.marks["subject"] == (0, 1, 2, 3, 4, 5)
