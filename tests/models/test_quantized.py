"""Weights in 4 and 8 bits: the numbers of transformers' own dequantised model, in whatever pass they are computed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tests.families import saved
from tiny_ablation import load_run
from tiny_ablation.config.schema import ModelConfig, ModelSource, Weights
from tiny_ablation.errors import MissingExtraError, ModelError
from tiny_ablation.models import quantized
from tiny_ablation.models.loader import load_model, load_plain, weights_id
from tiny_ablation.models.quantized import packed_layers

IDS = torch.tensor([[1, 5, 9, 30, 17, 4, 8]])
BITS = {"4bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "8bit": {"load_in_8bit": True}}
needs_bitsandbytes = pytest.mark.usefixtures("bitsandbytes")


@pytest.fixture
def bitsandbytes() -> Any:
    return pytest.importorskip("bitsandbytes")


def config(path: Path, bits: str, **more: Any) -> ModelConfig:
    return ModelConfig(name="mine", source=ModelSource.local, path=str(path), quantization=bits, **more)


def counterpart(path: Path, bits: str) -> Any:
    asked: Any = BitsAndBytesConfig(**BITS[bits])
    hf: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, quantization_config=asked, device_map="cpu")
    return hf.dequantize().eval()


@needs_bitsandbytes
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "neox"])
def test_the_logits_are_those_of_the_dequantised_model(tmp_path, family, bits):
    path = saved(family, tmp_path / family)
    cfg = config(path, bits)
    ours = load_model(cfg, device="cpu", dtype="float32").hf
    assert next(packed_layers(ours), None)
    with torch.no_grad():
        wanted = counterpart(path, bits)(IDS).logits
        assert torch.allclose(ours(IDS).logits, wanted, atol=1e-5)
        assert torch.allclose(ours(IDS.repeat(3, 1)).logits[1], wanted[0], atol=1e-5)
        plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)(IDS).logits
    assert not torch.allclose(wanted, plain, atol=1e-3)
    judge = load_plain(cfg, dtype="float64", weights=weights_id(cfg))
    with torch.no_grad():
        assert torch.allclose(judge(IDS).logits.float(), wanted, atol=1e-5)


@needs_bitsandbytes
def test_the_weights_are_kept_packed_and_follow_the_precision_of_the_run(tmp_path):
    path = saved("llama", tmp_path / "llama")
    for bits, size in (("4bit", 2), ("8bit", 1)):
        hf = load_model(config(path, bits), device="cpu", dtype="bfloat16").hf
        layers = dict(packed_layers(hf))
        assert len(layers) == 3 * 7
        for layer in layers.values():
            assert layer.packed.nbytes * size == layer.weight.numel()
            assert layer.weight.dtype is torch.bfloat16
            assert layer.scale.dtype is torch.float32


@needs_bitsandbytes
@pytest.mark.parametrize(("family", "bits"), [("llama", "4bit"), pytest.param("gpt2", "8bit", marks=pytest.mark.slow)])
def test_a_run_is_verified_against_the_dequantised_model(cli, tmp_path, family, bits):
    path = saved(family, tmp_path / family)
    run = (
        "model=local",
        f"model.path={path}",
        f"model.quantization={bits}",
        "ablation=heads_zero",
        "dataset.n_examples=8",
        "tracking=off",
        "device.threads=1",
        "stats.n_boot=100",
        "stats.n_perm=100",
        "hydra.run.dir=run",
    )
    assert cli(*run).code == 0
    found = load_run(tmp_path / "run")
    verified = json.loads((tmp_path / "run/metrics/verify.json").read_text())
    assert verified["verdict"] == "ok"
    assert not verified["faults"]
    assert found.provenance["weights_origin"]["quantization"] == bits
    other = cli(*run[:2], *run[3:])
    assert (other.code, "model.quantization" in other.err) == (2, True)  # another model's run is in the directory


@pytest.mark.parametrize(
    ("more", "message"),
    [({"weights": Weights.folded}, "use model.weights=raw"), ({"source": ModelSource.toy}, "made in memory")],
)
def test_what_cannot_be_rounded_is_refused(tmp_path, more, message):
    path = saved("llama", tmp_path / "llama")
    cfg = config(path, "4bit")
    for name, value in more.items():
        setattr(cfg, name, value)
    with pytest.raises(ModelError, match=message):
        load_model(cfg, device="cpu", dtype="float32")


def test_without_bitsandbytes_the_extra_is_named(tmp_path, monkeypatch):
    def missing(_: str) -> str:
        raise quantized.PackageNotFoundError

    monkeypatch.setattr(quantized, "version", missing)
    with pytest.raises(
        MissingExtraError, match=r"model.quantization=8bit needs an extra: pip install 'tiny-ablation\[quantization\]'"
    ):
        load_model(config(saved("llama", tmp_path / "llama"), "8bit"), device="cpu", dtype="float32")
