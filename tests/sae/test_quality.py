"""Quality against plain computations: the bare model, hand-written hooks, one context at a time."""

import numpy as np
import pytest
import torch

from tiny_ablation.sae.quality import quality
from tiny_ablation.sae.site import Site


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(1).integers(5, 300, size=(5, 9), dtype=np.int32)


def states(network, rows):
    ids = torch.from_numpy(rows).long()
    return network.hf(input_ids=ids, output_hidden_states=True).hidden_states[1]


def loss(network, rows, change):
    """Mean cross-entropy of tokens 2, 3, ... with the residual stream behind block 0 changed."""
    handle = network.blocks[0].register_forward_hook(
        lambda _m, _a, out: (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)
    )
    ids = torch.from_numpy(rows).long()
    try:
        with torch.no_grad():
            logits = network.hf(input_ids=ids).logits[:, 1:-1]
    finally:
        handle.remove()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 2:].flatten()).item()


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_numbers(toy_networks, make_autoencoder, rows, shape):
    network = toy_networks[shape]
    found = make_autoencoder(32, site=Site("resid_post", 0))
    got = quality(network, found, rows)
    x = states(network, rows)[:, 1:].flatten(0, 1).double()
    features = found.sae.encode(x.float())
    output = found.sae.decode(features).double()
    variance = ((x - x.mean(0)) ** 2).sum()
    expected = 1 - ((output - x) ** 2).sum() / variance
    assert got.numbers["explained_variance"] == pytest.approx(expected.item(), rel=1e-5)
    assert got.numbers["l0"] == pytest.approx((features > 0).sum(1).double().mean().item())
    assert got.numbers["dead_features"] == pytest.approx((features > 0).any(0).logical_not().double().mean().item())
    assert got.numbers["tokens"] == 5 * 8
    torch.testing.assert_close(got.frequency, (features > 0).double().mean(0))

    recon = lambda h: found.sae.decode(found.sae.encode(h))  # noqa: E731
    keep = lambda h, new: torch.cat([h[:, :1], new[:, 1:]], 1)  # noqa: E731
    clean = loss(network, rows, lambda h: h)
    spliced = loss(network, rows, lambda h: keep(h, recon(h)))
    zeroed = loss(network, rows, lambda h: keep(h, h * 0))
    assert got.numbers["ce"] == pytest.approx(clean, abs=2e-5)
    assert got.numbers["ce_spliced"] == pytest.approx(spliced, abs=2e-5)
    assert got.numbers["ce_zeroed"] == pytest.approx(zeroed, abs=2e-5)
    assert got.numbers["ce_recovered"] == pytest.approx((zeroed - spliced) / (zeroed - clean), abs=1e-3)
    whole, none = (loss(network, rows, change) for change in (recon, lambda h: h * 0))
    assert got.numbers["ce_recovered_with_position_0"] == pytest.approx((none - whole) / (none - clean), abs=1e-3)


def test_a_perfect_autoencoder_is_perfect(toy_networks, make_autoencoder, rows):
    found = make_autoencoder(32, site=Site("resid_post", 0), architecture="standard", n=64)
    with torch.no_grad():
        found.sae.W_enc[:] = torch.cat([torch.eye(32), -torch.eye(32)], 1)
        found.sae.W_dec[:] = found.sae.W_enc.T
        found.sae.b_enc[:], found.sae.b_dec[:] = 0, 0
    got = quality(toy_networks["llama"], found, rows).numbers
    assert got["explained_variance"] == pytest.approx(1.0, abs=1e-6)
    assert got["ce_recovered"] == pytest.approx(1.0, abs=1e-4)
    assert got["l0"] == pytest.approx(32)
    assert got["dead_features"] == 0
