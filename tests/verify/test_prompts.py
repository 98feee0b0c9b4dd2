"""The tokens of prompts are those that the model's own tokenizer gives their text."""

from types import SimpleNamespace

import pytest
from tokenizers import processors

from tiny_ablation.data.examples import Example
from tiny_ablation.models.sources.toy_tokenizer import END, toy_tokenizer
from tiny_ablation.verify.check import prompt_faults

TEXT = "The capital of France is"


def made(template):
    tokenizer = toy_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[gMASK]", "<sop>"]})
    names = ("[gMASK]", "<sop>", END)
    special = [(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return tokenizer


def faults(template, asked, written, text=TEXT):
    """What is said where a run has the tokens of `written` for `text`."""
    tokenizer = made(template)
    ids = tuple(tokenizer(written, add_special_tokens=False)["input_ids"])
    row = SimpleNamespace(example=Example("a", text, "", " Paris", " Rome", "a"), clean_ids=ids, corrupt_ids=())
    root = SimpleNamespace(model=SimpleNamespace(prepend_bos=asked))
    return prompt_faults(
        SimpleNamespace(
            tokens=[row],
            spec=SimpleNamespace(settings=SimpleNamespace(root=root)),
            network=SimpleNamespace(model=SimpleNamespace(tokenizer=tokenizer)),
        )  # pyright: ignore
    )


@pytest.mark.parametrize(
    ("template", "asked", "right", "wrong"),
    [
        ("$A", "auto", TEXT, END + TEXT),
        (f"{END} $A", "auto", END + TEXT, TEXT),
        ("[gMASK] <sop> $A", "auto", "[gMASK]<sop>" + TEXT, "<sop>" + TEXT),
        ("[gMASK] <sop> $A", "false", TEXT, "[gMASK]<sop>" + TEXT),
        ("[gMASK] <sop> $A", "True", END + "[gMASK]<sop>" + TEXT, END + TEXT),
        ("$A", True, END + TEXT, TEXT),
        (f"<sop> $A {END}", "auto", "<sop>" + TEXT, "<sop>" + TEXT + " now"),
    ],
)
def test_the_opening_that_is_asked_for(template, asked, right, wrong):
    assert faults(template, asked, right) == []
    [said] = faults(template, asked, wrong)
    assert "1 of 1 prompts are not tokenised as the model's tokenizer does it: example a" in said


def test_a_text_that_is_written_with_its_opening_does_not_get_it_twice():
    text = "[gMASK]<sop>" + TEXT
    assert faults("[gMASK] <sop> $A", "auto", text, text) == []
    assert len(faults("[gMASK] <sop> $A", "auto", "[gMASK]<sop>" + text, text)) == 1
