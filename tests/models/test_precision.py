"""Which tensors follow the precision of a run, held against what `from_pretrained(dtype=...)` makes."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.models import loader
from tiny_ablation.models.device import convert
from tiny_ablation.models.sources.toy import toy_llama

DTYPES = ("float32", "bfloat16", "float16", "float64")
LONG = torch.arange(600)[None] * 7 % 50


@pytest.fixture(autouse=True)
def _nothing_held():
    loader.forget()
    yield
    loader.forget()


@pytest.fixture(params=["llama", "gemma3"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A saved model; Gemma 3 has two rotary embeddings and a buffer that holds the scale of its embedding."""
    llama, tokenizer = toy_llama()
    tokenizer.save_pretrained(tmp_path)
    if request.param == "llama":
        llama.save_pretrained(tmp_path)
        return tmp_path
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=1024,
    )
    Gemma3ForCausalLM(config).save_pretrained(tmp_path)
    return tmp_path


def load(directory: Path, dtype: str) -> loader.LoadedModel:
    config = ModelConfig(name="it", source=ModelSource.local, path=str(directory))
    return loader.load_model(config, device="cpu", dtype=dtype)


def dtypes(hf: torch.nn.Module) -> dict[str, torch.dtype]:
    return {name: tensor.dtype for name, tensor in (*hf.named_parameters(), *hf.named_buffers())}


@torch.inference_mode()
def logits(hf) -> torch.Tensor:
    return hf(input_ids=LONG, use_cache=False).logits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", *(pytest.param(d, marks=pytest.mark.slow) for d in DTYPES[2:])])
def test_a_file_is_loaded_as_from_pretrained_loads_it(directory: Path, dtype: str) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))
    ours = load(directory, dtype).hf
    assert dtypes(ours) == dtypes(theirs)
    assert {d for name, d in dtypes(ours).items() if name.endswith("inv_freq")} == {torch.float32}
    assert torch.equal(logits(ours), logits(theirs))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_in_memory_keeps_its_frequencies(dtype: str) -> None:
    loaded = loader.load_model(ModelConfig(name="toy", source=ModelSource.toy), device="cpu", dtype=dtype)
    exact = toy_llama()[0].model.rotary_emb.inv_freq
    assert torch.equal(loaded.hf.model.rotary_emb.inv_freq, exact)


def test_without_a_precision_nothing_is_converted() -> None:
    mixed = torch.nn.ModuleList([torch.nn.Linear(2, 2).double(), torch.nn.Linear(2, 2)])
    convert(mixed, device="cpu")
    assert [part.weight.dtype for part in mixed] == [torch.float64, torch.float32]
