"""Directories and GGUF files of the user's own: taken when they are whole, else refused in words."""

import hashlib
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.errors import ModelError
from tiny_ablation.models.loader import load_model
from tiny_ablation.models.sources import local
from tiny_ablation.models.sources.toy import toy_llama

Make = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/models"


def config(path: object) -> ModelConfig:
    return ModelConfig(name="mine", source=ModelSource.local, path=None if path is None else str(path))


def load(path: Path):
    return load_model(config(path), device="cpu", dtype="float32")


def test_a_directory_is_loaded_as_it_is(tmp_path: Path, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    loaded = load(directory)
    toy, tokenizer = toy_llama()
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    assert torch.equal(loaded.hf(ids).logits, toy(ids).logits)
    assert loaded.tokenizer("The capital of France is")["input_ids"] == ids[0].tolist()
    assert loaded.weights_hash == local.weights_id(config(directory))
    assert loaded.origin["path"] == str(directory)
    assert loaded.origin["source"] == "local"


def test_the_identity_of_a_directory_follows_weights_config_and_tokenizer_only(tmp_path: Path, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    seen = {local.weights_id(config(directory))}
    (directory / "README.md").write_text("hello")
    assert local.weights_id(config(directory)) in seen
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data + b" ")
        seen.add(local.weights_id(config(directory)))
    assert len(seen) == 4


def test_a_gguf_becomes_the_same_model(tmp_path: Path, cache: Path, gguf_file: Make) -> None:
    path = gguf_file(tmp_path / "toy.gguf")
    loaded = load(path)
    toy, tokenizer = toy_llama()
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    assert torch.allclose(loaded.hf(ids).logits, toy(ids).logits, atol=1e-5)
    assert loaded.hf.lm_head.weight is loaded.hf.model.embed_tokens.weight
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.weights_hash == local.weights_id(config(path)) == f"gguf:{digest}"
    assert [found.name for found in cache.iterdir() if found.is_dir()] == [f"file-{digest[:12]}-v1"]
    assert "quantization_config" not in json.loads(next(cache.glob("*/config.json")).read_text())


def test_a_conversion_gives_the_same_bytes_each_time_and_draws_nothing(tmp_path: Path, gguf_file: Make) -> None:
    path = gguf_file(tmp_path / "toy.gguf")
    state = torch.get_rng_state()
    records = []
    for name in ("one", "two"):
        directory = tmp_path / name
        directory.mkdir()
        local.convert_gguf(path, directory, "toy")
        records.append({file.name: file.read_bytes() for file in directory.iterdir()})
    assert records[0] == records[1]
    assert torch.equal(state, torch.get_rng_state())
    AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    AutoTokenizer.from_pretrained(tmp_path / "one")


def test_conversion_says_nothing_where_there_is_no_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], gguf_file: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those that Hydra left behind in this process, whose stream was another test's.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    load(gguf_file(tmp_path / "toy.gguf"))
    assert capfd.readouterr() == ("", "")


LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def rope_freqs(factor: float) -> np.ndarray:
    """What llama.cpp writes for Llama 3: a divisor for each frequency, worked out as its converter does."""
    size, base, found = toy_llama()[0].config.head_dim, 500_000.0, []
    for i in range(0, size, 2):
        length = 2 * math.pi * base ** (i / size)
        if length < 8192 / 4:
            found.append(1.0)
        elif length > 8192:
            found.append(factor)
        else:
            smooth = (8192 / length - 1) / (4 - 1)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, dtype=np.float32)


def linear(writer: Any) -> None:
    writer.add_string("llama.rope.scaling.type", "linear")
    writer.add_float32("llama.rope.scaling.factor", 4.0)


def llama3(writer: Any) -> None:
    writer.add_rope_freq_base(500_000.0)
    writer.add_tensor("rope_freqs.weight", rope_freqs(8.0))


@pytest.mark.parametrize(
    ("alter", "scaling"),
    [
        (linear, {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}),
        (llama3, {"rope_type": "llama3", "factor": 8.0, "rope_theta": 500_000.0, **LLAMA3}),
    ],
    ids=["linear", "rope_freqs"],
)
def test_the_rotary_scaling_of_a_gguf_is_that_of_its_counterpart(
    tmp_path: Path, gguf_file: Callable[..., Path], alter: Any, scaling: dict[str, Any]
) -> None:
    loaded = load(gguf_file(tmp_path / "toy.gguf", alter))
    toy, tokenizer = toy_llama()
    ids = tokenizer("The capital of France is " * 20, return_tensors="pt")["input_ids"]
    settings = toy.config.to_dict()
    settings["rope_parameters"] = scaling
    scaled = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    scaled.load_state_dict(toy.state_dict())
    assert torch.allclose(loaded.hf(ids).logits, scaled(ids).logits, atol=1e-5)
    assert not torch.allclose(loaded.hf(ids).logits, toy(ids).logits, atol=1e-3)


@pytest.mark.parametrize(
    "alter",
    [
        lambda writer: writer.add_string("llama.rope.scaling.type", "yarn"),
        lambda writer: writer.add_tensor("rope_freqs.weight", np.linspace(1, 5, 8, dtype=np.float32)),
        lambda writer: writer.add_tensor("rope_factors_long.weight", np.ones(8, dtype=np.float32)),
    ],
    ids=["yarn", "odd divisors", "longrope"],
)
def test_a_rotary_scaling_without_a_counterpart_is_refused(tmp_path: Path, gguf_file: Callable[..., Path], alter: Any) -> None:
    with pytest.raises(ModelError, match=r"toy\.gguf scales its rotary embedding in a way that has no certain counterpart"):
        load(gguf_file(tmp_path / "toy.gguf", alter))


@pytest.mark.parametrize("keep", [0, 3, 20, 1000, -1000])
def test_a_gguf_that_is_cut_short_is_one_message(tmp_path: Path, cache: Path, keep: int, gguf_file: Make) -> None:
    path = gguf_file(tmp_path / "toy.gguf")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"toy\.gguf") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("*/model.safetensors"))


@pytest.mark.parametrize(
    ("path", "message"), [(None, r"model\.path=\.\.\."), ("nowhere/at-all", r"model\.path=nowhere/at-all does not exist")]
)
def test_a_missing_path_names_the_key(path: str | None, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        local.prepare(config(path))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"not a \.gguf"):
        local.prepare(config(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"lacks config\.json"),
        ("model.safetensors", r"lacks model\.safetensors"),
        ("tokenizer*", "lacks a tokenizer"),
    ],
)
def test_an_incomplete_directory_says_what_is_missing(tmp_path: Path, name: str, message: str, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    for path in directory.glob(name):
        path.unlink()
    with pytest.raises(ModelError, match=message):
        local.prepare(config(directory))


def test_pickled_weights_are_refused_by_name(tmp_path: Path, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin, a pickle"):
        local.prepare(config(directory))


@pytest.mark.parametrize("shard", ["../model.safetensors", "pytorch_model.bin", "/etc/passwd"])
def test_an_index_cannot_point_elsewhere(tmp_path: Path, shard: str, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ModelError, match="not a safetensors file beside it"):
        local.prepare(config(directory))


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', "[" * 100_000])
def test_a_broken_index_is_one_message(tmp_path: Path, text: str, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match="not an index"):
        local.prepare(config(directory))


def cut(data: bytes) -> bytes:
    return data[:-100]


def flip_header(data: bytes) -> bytes:
    return data[:20] + b"\xff" + data[21:]


@pytest.mark.parametrize("damage", [cut, flip_header, lambda _: b"", lambda _: b"\xff" * 64])
def test_damaged_safetensors_are_one_message(tmp_path: Path, damage, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    weights = directory / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(ModelError, match="cannot be read") as caught:
        load(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_type": "no_such_thing"}', '{"model_type": "t5"}'])
def test_a_config_that_is_no_language_model_is_one_message(tmp_path: Path, text: str, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    (directory / "config.json").write_text(text)
    with pytest.raises(ModelError, match="cannot be read") as caught:
        load(directory)
    assert "\n" not in str(caught.value)


def test_weights_that_lack_tensors_are_refused_rather_than_drawn_at_random(tmp_path: Path, hf_directory: Make) -> None:
    from safetensors.torch import load_file, save_file

    directory = hf_directory(tmp_path / "model")
    tensors = load_file(directory / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensor .*layers\.1\.mlp\.up_proj"):
        load(directory)


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path, hf_directory: Make) -> None:
    directory = hf_directory(tmp_path / "model")
    mark = tmp_path / "ran"
    (directory / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    settings = json.loads((directory / "config.json").read_text())
    settings |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (directory / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="cannot be read"):
        load(directory)
    assert not mark.exists()
