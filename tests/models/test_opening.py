"""Prompts begin as their tokenizer begins a text, whatever special tokens that takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from tiny_ablation.config.schema import ModelConfig, ModelSource, Span
from tiny_ablation.data.examples import Example
from tiny_ablation.data.tokens import tokenize
from tiny_ablation.errors import ModelError
from tiny_ablation.models import loader
from tiny_ablation.models.opening import frame, opening
from tiny_ablation.models.sources import toy
from tiny_ablation.models.sources.toy_tokenizer import toy_tokenizer

GMASK, SOP, END = 40, 41, 0  # ids of the toy's vocabulary that stand for special tokens here
ROW = Example("a", "The capital of France is", "", " Paris", " Rome", "a")


def made(template: str) -> PreTrainedTokenizerFast:
    """The toy's tokenizer with a post-processor; `$A` is the text."""
    tokenizer = toy_tokenizer()
    names = {token: tokenizer.convert_ids_to_tokens(token) for token in (GMASK, SOP, END)}
    for name, token in (("[gMASK]", GMASK), ("<sop>", SOP), ("<end>", END)):
        template = template.replace(name, names[token])
    special = [(name, token) for token, name in names.items()]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return tokenizer


def config(**changes: Any) -> ModelConfig:
    return ModelConfig(**{"name": "mine", "source": ModelSource.toy, **changes})


@pytest.mark.parametrize(
    ("template", "asked", "expected"),
    [
        ("$A", "auto", ()),
        ("$A", True, (END,)),
        ("<end> $A", "auto", (END,)),
        ("<end> $A", "true", (END,)),
        ("<end> $A", False, ()),
        ("[gMASK] <sop> $A", "auto", (GMASK, SOP)),
        ("[gMASK] <sop> $A", True, (END, GMASK, SOP)),
        ("[gMASK] <sop> $A", "false", ()),
        ("<end> [gMASK] $A", True, (END, GMASK)),
        ("<sop> $A <end>", "auto", (SOP,)),
        ("$A <end>", "auto", ()),
    ],
)
def test_what_a_prompt_begins_with(template: str, asked: str | bool, expected: tuple[int, ...]) -> None:
    assert opening(config(prepend_bos=asked), made(template)) == expected


@pytest.mark.parametrize("template", ["[gMASK] <sop> $A", "<end> $A", "$A"])
def test_a_prompt_is_encoded_as_its_tokenizer_encodes_it(template: str) -> None:
    tokenizer = made(template)
    [row] = tokenize([ROW], tokenizer, opening=opening(config(), tokenizer), span=Span.first)
    assert list(row.clean_ids) == tokenizer(ROW.clean)["input_ids"]
    assert row.marks["last"] == (len(row.clean_ids) - 1,)


def test_a_model_on_disk_keeps_its_opening_and_says_so(
    tmp_path: Path, hf_directory: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = hf_directory(tmp_path / "model")
    made("[gMASK] <sop> $A <end>").save_pretrained(directory)
    cfg = config(source=ModelSource.local, path=str(directory))
    loaded = loader.load_model(cfg, device="cpu", dtype="float32")
    loader.forget()
    assert loaded.opening == loader.load_tokenizer(cfg).opening == (GMASK, SOP)
    own = toy_tokenizer()
    assert loaded.origin["opening"] == "".join(own.convert_ids_to_tokens([GMASK, SOP]))
    assert loaded.origin["closing_left_out"] == own.convert_ids_to_tokens(END)
    assert "ends every text with" in capsys.readouterr().err


def test_text_for_autoencoders_begins_so_too(tmp_path: Path, toy_networks: dict[str, Any]) -> None:
    from dataclasses import replace

    from tiny_ablation.config.schema import SaeConfig
    from tiny_ablation.sae.contexts import contexts, own_samples

    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"The capital of France is Paris, they said {i} times." for i in range(60)))
    network = toy_networks["llama"]
    opened = replace(network, model=replace(network.model, opening=(GMASK, SOP)))
    found = contexts(opened, SaeConfig(corpus=str(text), context=16, tokens=64, held_out=32), seed=0)
    samples = own_samples(opened, found.train[:, 3], 2, 6, seed=0)
    for rows in (found.train, found.held_out, samples):
        assert rows[:, :2].tolist() == [[GMASK, SOP]] * len(rows)


def test_a_tokenizer_that_cannot_tokenise_is_told() -> None:
    class Broken:
        bos_token_id = 7

        def __call__(self, _text: str) -> None:
            raise TypeError("'>' not supported between instances of 'int' and 'str'")

    with pytest.raises(ModelError, match=r"the tokenizer of model .* cannot tokenise: TypeError: '>' not supported"):
        opening(config(), Broken())


def test_an_opening_that_depends_on_the_text_is_refused() -> None:
    class Fickle:
        bos_token_id = None

        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": [9] * (add_special_tokens and len(text) > 1) + [1] * len(text)}

    with pytest.raises(ModelError, match=r"the same special tokens around every text.*model\.prepend_bos=false"):
        frame("mine", Fickle())
    assert opening(config(prepend_bos=False), Fickle()) == ()


def test_bos_without_such_a_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = toy.toy_llama()
    tokenizer.bos_token = None
    monkeypatch.setattr(toy, "build", lambda _cfg: (model, tokenizer))
    loader.forget()
    with pytest.raises(ModelError, match=r"model\.prepend_bos=true.*no such token"):
        loader.load_model(config(prepend_bos=True), device="cpu", dtype="float32")
