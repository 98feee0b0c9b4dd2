import copy
from dataclasses import replace

import pytest
import torch

from tests.conftest import SHAPES
from tiny_ablation.models.moved import moved
from tiny_ablation.models.network import build_network

IDS = torch.tensor([[5, 9, 2, 7]])


def logits(network):
    with torch.no_grad():
        return network.bridge.run_with_hooks(IDS), network.hf(IDS).logits


@pytest.mark.parametrize("shape", SHAPES)
def test_computes_as_a_model_that_was_built_in_that_precision(toy_networks, shape):
    network = toy_networks[shape]
    built = build_network(replace(network.model, hf=copy.deepcopy(network.hf).double()))
    with moved(network, device="cpu", dtype="float64"):
        for a, b in zip(logits(network), logits(built), strict=True):
            assert a.dtype == torch.float64
            assert torch.equal(a, b)


def test_the_very_tensors_come_back(toy_networks):
    network = toy_networks["llama"]
    before, weights = logits(network), {name: p.data_ptr() for name, p in network.hf.named_parameters()}
    with pytest.raises(KeyboardInterrupt), moved(network, device="cpu", dtype="float64"):
        raise KeyboardInterrupt
    assert {name: p.data_ptr() for name, p in network.hf.named_parameters()} == weights
    assert all(torch.equal(a, b) for a, b in zip(before, logits(network), strict=True))
