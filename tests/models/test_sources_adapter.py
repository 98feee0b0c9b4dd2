"""LoRA adapters: merged as PEFT merges them, with a base that is found or asked for; or refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tiny_ablation.config.schema import ModelConfig, ModelSource, Weights
from tiny_ablation.errors import MissingExtraError, ModelError
from tiny_ablation.models.loader import load_model, load_plain, load_tokenizer, weights_id
from tiny_ablation.models.network import build_network
from tiny_ablation.models.sources import adapter, local

peft: Any = pytest.importorskip("peft")
Make = Callable[[Path], Path]
IDS = torch.tensor([[0, 5, 9, 30, 17, 4, 8]])


def config(path: Path, **more: Any) -> ModelConfig:
    return ModelConfig(name="mine", source=ModelSource.local, path=str(path), **more)


def save_adapter(directory: Path, base: Path, **settings: Any) -> Path:
    """An adapter with random numbers in both of its matrices, saved by peft."""
    chosen = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj", "down_proj"]} | settings
    hf = AutoModelForCausalLM.from_pretrained(base)
    model = peft.get_peft_model(hf, peft.LoraConfig(task_type="CAUSAL_LM", **chosen))
    torch.manual_seed(1)
    for name, tensor in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            tensor.data = tensor + 0.05 * torch.randn_like(tensor)
    model.save_pretrained(directory)
    return directory


def change(directory: Path, **settings: Any) -> None:
    file = directory / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def counterpart(base: Path, directory: Path) -> torch.Tensor:
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), directory)
    return model.merge_and_unload().eval()(IDS).logits


@pytest.fixture
def base(tmp_path: Path, hf_directory: Make) -> Path:
    return hf_directory(tmp_path / "base")


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_rslora": True}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}}, {"layers_to_transform": [1]}],
    ids=["plain", "rslora", "dora", "ranks", "one layer"],
)
def test_an_adapter_is_merged_as_peft_does(tmp_path: Path, base: Path, settings: dict[str, Any]) -> None:
    directory = save_adapter(tmp_path / "lora", base, **settings)
    loaded = load_model(config(directory), device="cpu", dtype="float32")
    expected = counterpart(base, directory)
    assert (loaded.hf(IDS).logits - expected).abs().max() < 5e-5
    assert (AutoModelForCausalLM.from_pretrained(base)(IDS).logits - expected).abs().max() > 1e-3
    assert build_network(loaded).shape.n_heads == 4
    again = load_plain(config(directory), dtype="float32", weights=loaded.weights_hash)
    assert (again(IDS).logits - expected).abs().max() < 5e-5


def test_the_identity_and_the_provenance_have_both(tmp_path: Path, base: Path, hf_directory: Make) -> None:
    directory = save_adapter(tmp_path / "lora", base)
    cfg = config(directory)
    loaded = load_model(cfg, device="cpu", dtype="float32")
    assert loaded.weights_hash == weights_id(cfg)
    assert local.weights_id(cfg) in loaded.weights_hash
    assert local.weights_id(config(base)) in loaded.weights_hash
    assert loaded.origin["path"] == str(directory)
    assert loaded.origin["base_path"] == str(base)
    assert peft.__version__ in loaded.origin["adapter"]
    seen = {weights_id(cfg)}
    change(directory, lora_alpha=8)
    seen.add(weights_id(cfg))
    other = hf_directory(tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    seen.add(weights_id(config(directory, base=str(other))))
    assert len(seen) == 3


def test_the_base_is_asked_for_where_it_is_not_found(tmp_path: Path, base: Path) -> None:
    directory = save_adapter(tmp_path / "lora", base)
    change(directory, base_model_name_or_path="/nowhere/at/all")
    with pytest.raises(ModelError, match=r"belongs to /nowhere/at/all, which is not here; .* model\.base=DIR"):
        weights_id(config(directory))
    change(directory, base_model_name_or_path=None)
    with pytest.raises(ModelError, match=r"does not say which model it belongs to; give model\.base=DIR"):
        weights_id(config(directory))
    change(directory, base_model_name_or_path="no-such/model-of-anybody")
    assert weights_id(config(directory)) is None
    with pytest.raises(ModelError, match=r"its base cannot be had: .* Give it as model\.base=DIR"):
        load_tokenizer(config(directory))
    given = load_model(config(directory, base=str(base)), device="cpu", dtype="float32")
    change(directory, base_model_name_or_path=str(base))
    assert (given.hf(IDS).logits - counterpart(base, directory)).abs().max() < 5e-5


def test_a_base_of_what_is_no_adapter_is_refused(base: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.base=x is for LoRA adapters"):
        weights_id(config(base, base="x"))
    with pytest.raises(ModelError, match=r"model\.base=x is for LoRA adapters"):
        weights_id(ModelConfig(name="toy", source=ModelSource.toy, base="x"))


def test_an_adapter_has_the_tokenizer_of_its_base_or_its_own(tmp_path: Path, base: Path) -> None:
    directory = save_adapter(tmp_path / "lora", base)
    assert load_tokenizer(config(directory)).tokenizer.chat_template is None
    own = load_tokenizer(config(directory)).tokenizer
    own.chat_template = "{{ messages[0].content }}"
    own.save_pretrained(directory)
    assert load_tokenizer(config(directory)).tokenizer.chat_template == "{{ messages[0].content }}"


def test_half_precision_rounds_the_merged_weights(tmp_path: Path, base: Path) -> None:
    directory = save_adapter(tmp_path / "lora", base)
    whole = load_model(config(directory), device="cpu", dtype="float32").hf
    half = load_model(config(directory), device="cpu", dtype="bfloat16").hf
    for name, tensor in half.named_parameters():
        assert torch.equal(tensor, whole.get_parameter(name).bfloat16())


def test_folding_is_done_after_merging(tmp_path: Path, base: Path) -> None:
    directory = save_adapter(tmp_path / "lora", base)
    folded = load_model(config(directory, weights=Weights.folded), device="cpu", dtype="float32")
    plain, found = counterpart(base, directory).log_softmax(-1), folded.hf(IDS).logits.log_softmax(-1)
    assert (plain - found).abs().max() < 5e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "of the kind IA3"),
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
        ({"init_lora_weights": "pissa"}, "sets init_lora_weights=pissa"),
        ({"a_setting_to_come": 3}, "sets a_setting_to_come"),
        ({"megatron_config": {"x": 1}, "megatron_core": "os"}, "sets megatron_config"),
    ],
)
def test_what_is_not_merged_exactly_is_refused_by_name(
    tmp_path: Path, base: Path, settings: dict[str, Any], message: str
) -> None:
    directory = save_adapter(tmp_path / "lora", base)
    change(directory, **settings)
    with pytest.raises(ModelError, match=message) as caught:
        weights_id(config(directory))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda t: t | {"base_model.model.model.layers.7.x.lora_A.weight": torch.zeros(4, 4)}, "no place for: .*layers.7.x"),
        (lambda t: dict([*t.items()][1:]), "it lacks: .*layers.0"),
        (lambda t: {k: v[:1] if "0.self_attn.q_proj.lora_A" in k else v for k, v in t.items()}, "another shape of: .*q_proj"),
        (lambda t: {k: v * float("nan") for k, v in t.items()}, "cannot be merged: NaNs"),
    ],
    ids=["unknown", "missing", "shape", "nan"],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, base: Path, alter: Callable[[dict], dict], message: str
) -> None:
    from safetensors.torch import load_file, save_file

    directory = save_adapter(tmp_path / "lora", base)
    file = directory / "adapter_model.safetensors"
    save_file(alter(load_file(file)), file)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(config(directory), device="cpu", dtype="float32")
    assert "\n" not in str(caught.value)


def test_an_adapter_of_a_tied_embedding_is_refused(tmp_path: Path, gguf_file: Make) -> None:
    tied = local.prepare(config(gguf_file(tmp_path / "toy.gguf"))).directory
    directory = save_adapter(tmp_path / "lora", tied, target_modules=["lm_head"])
    with pytest.raises(ModelError, match="changes an embedding that its base ties"):
        load_model(config(directory), device="cpu", dtype="float32")


def test_files_that_leave_open_what_is_meant_are_refused(tmp_path: Path, base: Path, hf_directory: Make) -> None:
    directory = save_adapter(tmp_path / "lora", base)
    with pytest.raises(ModelError, match="is itself an adapter"):
        load_model(config(directory, base=str(save_adapter(tmp_path / "two", base))), device="cpu", dtype="float32")
    hf_directory(directory)
    with pytest.raises(ModelError, match=r"holds a whole model .* and an adapter"):
        weights_id(config(directory))
    (directory / "adapter_model.safetensors").rename(directory / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"lacks adapter_model\.safetensors. It has adapter_model\.bin, a pickle"):
        weights_id(config(directory))


def test_without_peft_the_extra_is_named(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = save_adapter(tmp_path / "lora", base)

    def missing(name: str) -> str:
        raise adapter.PackageNotFoundError(name)

    monkeypatch.setattr(adapter, "version", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'tiny-ablation\[peft\]'"):
        load_model(config(directory), device="cpu", dtype="float32")
