"""Weights that do not fit their config are refused by name; what is no weight is let through by rule."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoConfig, GPTNeoForCausalLM, LlamaConfig, LlamaForCausalLM

from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.errors import ModelError
from tiny_ablation.models import loader
from tiny_ablation.models.sources.toy_tokenizer import toy_tokenizer

UP = "model.layers.0.mlp.up_proj.weight"
INV_FREQ = "model.layers.1.self_attn.rotary_emb.inv_freq"
Change = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


@pytest.fixture(autouse=True)
def _nothing_held() -> Iterator[None]:
    loader.forget()
    yield
    loader.forget()


@pytest.fixture
def alter(tmp_path: Path) -> Callable[..., loader.LoadedModel]:
    """Loads a two-block Llama with attention biases, its tensors and its config altered."""
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 32}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, attention_bias=True))
    return _altering(tmp_path / "model", model)


def _altering(directory: Path, model: Any) -> Callable[..., loader.LoadedModel]:
    model.save_pretrained(directory)
    toy_tokenizer().save_pretrained(directory)
    tensors = load_file(directory / "model.safetensors")
    settings = json.loads((directory / "config.json").read_text())

    def load(change: Change = dict, **config: Any) -> loader.LoadedModel:
        save_file(change(tensors), directory / "model.safetensors", metadata={"format": "pt"})
        (directory / "config.json").write_text(json.dumps(settings | config))
        cfg = ModelConfig(name="mine", source=ModelSource.local, path=str(directory))
        return loader.load_model(cfg, device="cpu", dtype="float32")

    return load


def put(**tensors: torch.Tensor) -> Change:
    return lambda own: own | {name.replace("__", "."): tensor for name, tensor in tensors.items()}


def as_type(dtype: torch.dtype) -> Change:
    return lambda own: own | {UP: (own[UP] * 100).to(dtype)}


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (
            dict,
            {"attention_bias": False},
            r"hold 8 tensors that the config has no place for: model\.layers\.\*\.self_attn\.k_proj\.bias \(2\), .*v_proj",
        ),
        (dict, {"num_hidden_layers": 1}, r"hold 13 tensors that the config has no place for: .*mlp\.down_proj\.weight"),
        (dict, {"num_hidden_layers": 3}, r"lack 13 tensors that the config asks for: .*mlp\.down_proj\.weight"),
        (
            dict,
            {"intermediate_size": 48},
            r"6 tensors of another shape: .*\.down_proj\.weight \(64x96 where 64x48 is needed\) \(2\)",
        ),
        (dict, {"vocab_size": 40}, r"of another shape: lm_head\.weight \(32x64 where 40x64 is needed\)"),
        (as_type(torch.int8), {}, f"1 tensor of type I8, .*: {UP}"),
        (as_type(torch.float8_e4m3fn), {}, "1 tensor of type F8_E4M3"),
        (dict, {"tie_word_embeddings": True}, r"lm_head\.weight and model\.embed_tokens\.weight differ, and the config ties"),
        (dict, {"quantization_config": {"quant_method": "newest"}}, r"quantization_config \(quant_method newest\)"),
        (put(score__weight=torch.ones(2, 64)), {}, r"has no place for: score\.weight\."),
        (lambda own: own | {INV_FREQ: torch.ones(8)}, {}, "other rotary frequencies than the config gives"),
    ],
    ids=["bias", "fewer", "more", "shape", "vocabulary", "int8", "fp8", "untied", "quantised", "head", "rotary"],
)
def test_weights_that_do_not_fit_are_refused_by_name(alter: Any, change: Change, config: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        alter(change, **config)
    assert "\n" not in str(caught.value)


def test_several_faults_are_told_at_once(alter: Any) -> None:
    with pytest.raises(ModelError, match=r"has no place for: .*; they hold 1 tensor of type I8"):
        alter(as_type(torch.int8), attention_bias=False)


@pytest.mark.parametrize("rounded", [torch.float32, torch.bfloat16])
def test_what_older_versions_saved_beside_the_weights_is_no_fault(alter: Any, rounded: torch.dtype) -> None:
    plain = alter().hf(torch.tensor([[1, 2, 3]])).logits
    frequencies = 1 / 10000 ** (torch.arange(0, 16, 2) / 16)
    loader.forget()
    with_more = alter(lambda own: own | {INV_FREQ: frequencies.to(rounded)})
    assert torch.equal(with_more.hf(torch.tensor([[1, 2, 3]])).logits, plain)


def test_a_second_copy_of_tied_weights_is_no_fault(alter: Any) -> None:
    copied = lambda own: own | {"lm_head.weight": own["model.embed_tokens.weight"].clone()}  # noqa: E731
    hf = alter(copied, tie_word_embeddings=True).hf
    assert hf.lm_head.weight is hf.model.embed_tokens.weight


def test_masks_that_a_class_names_as_left_over_are_no_fault(tmp_path: Path) -> None:
    load = _altering(tmp_path / "gpt2", GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=32)))
    mask = torch.ones(1, 1, 8, 8).tril().to(torch.uint8)
    load(put(transformer__h__0__attn__bias=mask))
    loader.forget()
    with pytest.raises(ModelError, match=r"has no place for: transformer\.h\.0\.attn\.extra\."):
        load(put(transformer__h__0__attn__extra=mask.float()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers=1,000,000,000, and its weights are 29 tensors"),
        ({"num_labels": 10**9}, "num_labels=1,000,000,000"),
        ({"num_labels": 10**400}, "num_labels=10,000"),
        ({"text_config": {"num_experts": 10**7}}, "num_experts=10,000,000"),
        ({"vocab_size": 10**9}, r"asks for 128,000,0.* parameters .* its weights are 74,\d+ numbers"),
        ({"intermediate_size": 10**8}, "parameters"),
    ],
)
def test_a_config_that_is_out_of_all_proportion_is_refused_at_once(alter: Any, config: Any, message: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ModelError, match=message):
        alter(dict, **config)
    assert time.monotonic() - begun < 20


def test_tables_that_are_out_of_all_proportion_are_refused(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "attention_types": [[["global"], 1]]}
    neo = GPTNeoForCausalLM(GPTNeoConfig(**sizes, vocab_size=32, max_position_embeddings=16))
    load = _altering(tmp_path / "neo", neo)
    with pytest.raises(ModelError, match=r"1,\d{3},\d{3},\d{3},\d{3} bytes of masks and tables"):
        load(lambda own: own | {"transformer.wpe.weight": torch.zeros(2, 32)}, max_position_embeddings=10**6)
