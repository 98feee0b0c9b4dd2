"""The fast matrix products against PyTorch's own, on every architecture that there is a toy of."""

import weakref

import pytest
import torch
from torch import nn

from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.models import loader, onednn_linear
from tiny_ablation.models.network import build_network
from tiny_ablation.models.onednn_linear import FastProducts, available, fast_products

SHAPES = ("llama", "gpt2", "neox")
IDS = torch.arange(12).view(2, 6) % 7


@pytest.fixture
def have(toy_networks) -> None:
    if not available(toy_networks["llama"]):
        pytest.skip("this machine or build of PyTorch has no faster product")


def replaced(network) -> list[str]:
    return [name for name, module in network.hf.named_modules() if "forward" in vars(module)]


def test_they_are_there_where_the_processor_and_pytorch_have_them(toy_networks):
    expected = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.backends.mkldnn.is_available()
    assert available(toy_networks["llama"]) == expected


@pytest.mark.parametrize("budget", [onednn_linear.PACKED_BYTES, 0])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_linear_module_of_the_blocks_computes_the_same(have, toy_networks, monkeypatch, shape, budget):
    monkeypatch.setattr(onednn_linear, "PACKED_BYTES", budget)
    network = toy_networks[shape]
    with torch.inference_mode():
        plain = network.hf(IDS).logits
        with FastProducts(network).in_use():
            names = replaced(network)
            fast = network.hf(IDS).logits
    assert not replaced(network)
    linear = [n for n, m in network.hf.named_modules() if type(m).__name__ in ("Linear", "Conv1D")]
    assert sorted(names) == sorted(n for n in linear if budget or network.hf.get_submodule(n) is not network.unembed)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("d_in", "d_out"), [(576, 192), (576, 1536), (1536, 576), (32, 96)])
def test_a_row_is_the_same_to_the_bit_alone_and_among_others(have, d_in, d_out):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(d_out, d_in, generator=generator)
    x = torch.randn(700, d_in, generator=generator)
    product = onednn_linear._Packed(weight, None, packed=True)
    whole = product(x)
    for rows in (4, 5, 16, 77, 300):
        assert torch.equal(product(x[:rows]), whole[:rows])
        assert torch.equal(product(x[-rows:]), whole[-rows:])


def test_weights_that_were_written_to_are_packed_again(have):
    weight, x = torch.eye(16), torch.arange(64.0).view(4, 16)
    product = onednn_linear._Packed(weight, None, packed=True)
    assert torch.equal(product(x), x)
    with torch.inference_mode():
        weight.mul_(3)
        assert torch.equal(product(x), 3 * x)


def test_gradients_flow_through_the_modules_own_products(toy_networks):
    network = toy_networks["llama"]
    with torch.enable_grad(), FastProducts(network).in_use():
        assert not replaced(network)


def test_other_precisions_keep_their_own():
    config = ModelConfig(name="toy", source=ModelSource.toy)
    model = loader.load_model(config, device="cpu", dtype="float64")
    loader.forget()
    assert not available(build_network(model))


def test_without_the_operators_the_modules_stay_as_they_are(toy_networks, monkeypatch):
    def gone(*_args, **_kwargs):
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    monkeypatch.setattr(onednn_linear._Packed, "_pack", gone)
    network = toy_networks["gpt2"]
    with torch.inference_mode(), FastProducts(network).in_use():
        assert not available(network)
        assert not replaced(network)


def test_an_operator_that_computes_something_else_is_not_used(have, toy_networks, monkeypatch):
    monkeypatch.setattr(onednn_linear._Packed, "__call__", lambda self, x: nn.functional.linear(x, self._plain))
    assert not available(toy_networks["llama"])


def test_looking_whether_they_are_there_draws_no_random_numbers(toy_networks):
    before = torch.get_rng_state()
    available(toy_networks["llama"])
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_whose_data_were_replaced_are_packed_again(have, toy_networks):
    """`tensor.data` is written to without a new version, so whoever asks for the products has them checked."""
    network = toy_networks["llama"]
    weight = network.hf.get_submodule("model.layers.1.mlp.down_proj").weight
    before = weight.detach().clone()
    with torch.inference_mode():
        with fast_products(network).in_use():
            first = network.hf(IDS).logits
        weight.data.copy_(before.flip(0))
        try:
            plain = network.hf(IDS).logits
            with fast_products(network).in_use():
                fast = network.hf(IDS).logits
        finally:
            weight.data.copy_(before)
    assert (fast - first).abs().max() > 1e-3
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=0)


def test_one_model_is_packed_once_and_let_go_of(toy_networks):
    assert fast_products(toy_networks["llama"]) is fast_products(toy_networks["llama"])
    assert fast_products(toy_networks["llama"]) is not fast_products(toy_networks["gpt2"])
    model = loader.load_model(ModelConfig(name="toy", source=ModelSource.toy), device="cpu", dtype="float32")
    network = build_network(model)
    with torch.inference_mode(), fast_products(network).in_use():
        network.hf(IDS)
    gone = weakref.ref(network.hf)
    del network, model
    loader.forget()
    assert gone() is None
