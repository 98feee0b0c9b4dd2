"""Conversations: read from rows, rendered by the model's own template, with one opening and the answer behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from tiny_ablation.config.schema import DatasetConfig, Span
from tiny_ablation.data.chat import require_template
from tiny_ablation.data.corpus import content_hash, load_corpus
from tiny_ablation.data.rows import read_examples
from tiny_ablation.data.tokens import TokenizedExample, scorable, tokenize
from tiny_ablation.errors import ConfigError, DataError, ModelError
from tiny_ablation.models.sources.toy_tokenizer import toy_tokenizer

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "[{{ m.role }}]\n{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
ROW = {"target": "Paris", "foil": "Rome"}
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of France?"}]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Any]:
    def _read(*rows: dict[str, Any], **keys: Any) -> Any:
        path = tmp_path / "chat.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return read_examples(DatasetConfig(name="mine", family="file", path=str(path), **{"chat": True, **keys}))

    return _read


def tokenizer(template: str = TEMPLATE, *, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    made = toy_tokenizer()
    made.chat_template = template
    if adds_bos:
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{made.bos_token} $A", special_tokens=[(made.bos_token, made.bos_token_id)]
        )
    return made


def ids(examples: Any, made: Any, opening: tuple[int, ...] = (), prefix: str = "") -> list[TokenizedExample]:
    return tokenize(examples, made, opening=opening, span=Span.full, answer_prefix=prefix)


def test_messages_and_a_question_with_a_system_prompt_are_one(read: Any) -> None:
    question = {"clean": "Capital of France?", "system": "Be brief.", "corrupt": "Capital of Italy?"}
    one, other = read({**ROW, "messages": ASKED, "corrupt": "Capital of Italy?"}, {**ROW, **question})
    assert one.turns == other.turns == (("system", "Be brief."), ("user", "Capital of France?"))
    assert one.corrupt_turns == other.corrupt_turns == (("system", "Be brief."), ("user", "Capital of Italy?"))
    assert one.clean == "Be brief.\nCapital of France?"


def test_a_conversation_is_rendered_up_to_the_answer(read: Any) -> None:
    made = tokenizer()
    [row] = ids(read({**ROW, "messages": ASKED, "corrupt": "Capital of Italy?", "subject": "France"}), made)
    assert row.example.clean == "[system]\nBe brief.\n[user]\nCapital of France?\n[assistant]\n"
    assert row.example.corrupt == "[system]\nBe brief.\n[user]\nCapital of Italy?\n[assistant]\n"
    assert list(row.clean_ids) == made(row.example.clean)["input_ids"]
    assert list(row.clean_ids + row.target_ids) == made(row.example.clean + "Paris")["input_ids"]
    assert made.decode([row.clean_ids[i] for i in row.marks["subject"]]).strip() == "France"


def test_the_answer_may_be_begun(read: Any) -> None:
    [row] = ids(read({**ROW, "messages": ASKED, "target": " Paris", "foil": " Rome"}), tokenizer(), prefix="It is")
    assert row.example.clean.endswith("[assistant]\nIt is")


@pytest.mark.parametrize("writes_bos", [False, True])
def test_there_is_one_bos(read: Any, writes_bos: bool) -> None:
    made = tokenizer("{{ bos_token }}" * writes_bos + TEMPLATE, adds_bos=True)
    bos = made.bos_token_id
    [row] = ids(read({**ROW, "messages": ASKED}), made, opening=(bos,))
    assert row.clean_ids[0] == bos
    assert row.clean_ids.count(bos) == 1
    assert row.marks["last"] == (len(row.clean_ids) - 1,)


def test_a_template_that_writes_the_date_writes_the_same_every_day(read: Any) -> None:
    made = tokenizer("{{ strftime_now('%d %B %Y') }}" + TEMPLATE)
    [row] = ids(read({**ROW, "messages": ASKED}), made)
    assert row.example.clean.startswith("01 January 2025[system]")


def test_a_template_refuses_a_row_by_name(read: Any) -> None:
    rows = read({**ROW, "messages": [*ASKED[:1], {"role": "tool", "content": "x"}]}, {**ROW, "messages": ASKED})
    served = scorable(rows, tokenizer(), opening=(), span=Span.full)
    assert [(row.id, row.reason) for row in served.unscorable] == [
        ("row-1", "the model's chat template refuses it: no tools here")
    ]
    assert [row.example.id for row in served.examples] == ["row-2"]


def test_a_base_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model toy has no chat template.*dataset\.chat=false"):
        require_template("toy", toy_tokenizer())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": "Hi"}, "line 1: messages is not a list of messages"),
        ({"messages": []}, "messages is not a list of messages"),
        ({"messages": [{"role": "user"}]}, r"messages \[0\] has no text in role or content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, r"\[0\] has no text"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "It is"}]}, "ends in a turn of the assistant"),
        ({"messages": ASKED, "clean": "Hi"}, "messages beside clean or system"),
        ({"messages": ASKED, "corrupt": "Hi", "corrupt_messages": ASKED}, "corrupt_messages beside corrupt"),
        ({"massages": ASKED}, "did you mean 'messages'"),
        ({"system": "Hi"}, "missing messages or clean; the row has foil, system, target"),
    ],
)
def test_what_is_no_conversation_is_refused(read: Any, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read({**ROW, **row})


def test_messages_without_chat_say_what_to_set(read: Any) -> None:
    with pytest.raises(DataError, match=r"it has messages; dataset\.chat=true renders them"):
        read({**ROW, "messages": ASKED}, chat=False)


def test_the_turns_are_part_of_the_content_and_plain_rows_keep_their_hash(read: Any) -> None:
    plain = read({**ROW, "clean": "Capital of France?"}, chat=False)
    asked = read({**ROW, "clean": "Capital of France?"})
    assert content_hash(plain) != content_hash(asked)
    assert content_hash(plain).startswith("56646be4ebfc")


def test_prompts_that_end_in_white_space_can_be_allowed(tmp_path: Path) -> None:
    path = tmp_path / "rendered.jsonl"
    path.write_text(json.dumps({**ROW, "clean": "[user]\nCapital of France?\n[assistant]\n"}))
    cfg = DatasetConfig(name="mine", family="file", path=str(path))
    with pytest.raises(DataError, match=r"ends in white space.*dataset\.allow_trailing_space=true"):
        load_corpus(cfg, 0)
    cfg.allow_trailing_space = True
    assert load_corpus(cfg, 0).examples[0].clean.endswith("\n")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"family": "facts", "chat": True}, r"dataset\.chat=true is for your own file"),
        ({"family": "facts", "answer_prefix": "It is"}, r"dataset\.answer_prefix .* needs dataset\.chat=true"),
    ],
)
def test_keys_that_would_do_nothing_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_corpus(DatasetConfig(name="mine", **keys), 0)
