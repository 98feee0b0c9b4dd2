import subprocess
import sys

import numpy as np
import pytest
import torch

from tiny_ablation.errors import ConfigError, ModelError
from tiny_ablation.sae.buffer import fill_buffer, with_sinks
from tiny_ablation.sae.site import COMPONENTS, Site, activations, resolve_site, site_of

IDS = torch.tensor([[5, 6, 7, 8], [9, 5, 300, 2]])


@pytest.mark.parametrize("shape", ["llama", "gpt2", "neox"])
def test_activations_are_those_of_the_plain_model(toy_networks, shape):
    network = toy_networks[shape]
    states = network.hf(input_ids=IDS, output_hidden_states=True).hidden_states
    for layer in range(2):
        assert torch.equal(activations(network, Site("resid_pre", layer), IDS), states[layer])
    assert torch.equal(activations(network, Site("resid_post", 0), IDS), states[1])
    assert activations(network, Site("z", 1), IDS).shape == (2, 4, 32)


def test_nothing_of_the_hook_is_left(toy_networks):
    network = toy_networks["llama"]
    before = network.hf(input_ids=IDS).logits
    for component in COMPONENTS:
        activations(network, Site(component, 1), IDS)
    assert torch.equal(network.hf(input_ids=IDS).logits, before)


def test_the_names_of_saelens():
    assert site_of("blocks.8.hook_resid_pre") == Site("resid_pre", 8)
    assert site_of("blocks.3.hook_out") == site_of("blocks.3.hook_resid_post") == Site("resid_post", 3)
    assert all(site_of(Site(component, 2).hook_name) == Site(component, 2) for component in COMPONENTS)
    with pytest.raises(ModelError, match="hook_embed"):
        site_of("hook_embed")


def test_the_default_is_the_residual_stream_of_the_middle(toy_networks):
    shape = toy_networks["llama"].shape
    assert resolve_site(None, None, shape) == Site("resid_post", 1)
    with pytest.raises(ConfigError, match=r"sae\.layer=2.*layers 0 to 1"):
        resolve_site(None, 2, shape)


@pytest.fixture
def rows():
    return np.random.default_rng(0).integers(5, 200, size=(9, 6), dtype=np.int32)


def fill(network, rows, path, tick=lambda _: None):
    return fill_buffer(network, Site("resid_post", 0), rows, path, batch_tokens=12, tick=tick)


def test_the_buffer_holds_every_token_but_the_first(toy_networks, rows, tmp_path):
    network = toy_networks["llama"]
    found = fill(network, rows, tmp_path / "a.f32")
    plain = network.hf(input_ids=torch.from_numpy(rows).long(), output_hidden_states=True).hidden_states[1][:, 1:]
    np.testing.assert_allclose(found.values, plain.flatten(0, 1).numpy(), atol=1e-5)


def test_a_killed_filling_goes_on_where_it_stopped(toy_networks, rows, tmp_path):
    network, seen = toy_networks["llama"], []

    def kill(n):
        if n >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(network, rows, tmp_path / "a.f32", kill)
    found = fill(network, rows, tmp_path / "a.f32", seen.append)
    assert seen[0] >= 10  # what was finished is not computed again
    assert np.array_equal(found.values, fill(network, rows, tmp_path / "b.f32").values)


@pytest.mark.parametrize("name", ["a.f32", "a.json"])
def test_what_a_killed_filling_left_is_not_used_when_damaged(toy_networks, rows, tmp_path, name):
    network, seen = toy_networks["llama"], []

    def kill(n):
        if n >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(network, rows, tmp_path / "a.f32", kill)
    data = bytearray((tmp_path / name).read_bytes())
    data[5] ^= 1
    (tmp_path / name).write_bytes(data)
    found = fill(network, rows, tmp_path / "a.f32", seen.append)
    assert seen[0] == 0
    assert np.array_equal(found.values, fill(network, rows, tmp_path / "b.f32").values)


def test_room_for_the_whole_buffer_is_taken_at_once(toy_networks, rows, tmp_path):
    """A mapped file on a disk that fills up later would kill the process without a word."""
    code = (
        "import resource, sys; from pathlib import Path; from tiny_ablation.sae.buffer import _reserve\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: _reserve(Path(sys.argv[1]), 5000)\n"
        "except OSError as error: print(error.strerror)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    fill(toy_networks["llama"], rows, tmp_path / "b.f32")
    assert (tmp_path / "b.f32").stat().st_blocks * 512 >= (tmp_path / "b.f32").stat().st_size


def test_attention_sinks_are_known_and_no_part_of_the_sample():
    values = np.ones((40, 3), dtype=np.float32)
    values[7] = 100
    buffer = with_sinks(values)
    assert np.flatnonzero(buffer.is_sink).tolist() == [7]
    assert buffer.sinks().tolist() == [[100.0] * 3]
    assert torch.equal(buffer.sample(50, 0), torch.ones(39, 3))


def test_batches_are_an_order_of_their_own_in_each_epoch_and_can_start_anywhere():
    values = np.arange(1, 25, dtype=np.float32)[:, None] / 24 + 1
    buffer = with_sinks(values)
    stream = buffer.batches(8, 3, 0)
    described = [next(stream).flatten() for _ in range(6)]
    for epoch in (described[:3], described[3:]):
        assert sorted(torch.cat(epoch).tolist()) == pytest.approx(sorted(values.flatten().tolist()))
    assert not torch.equal(described[0], described[3])
    later = buffer.batches(8, 3, 4)
    assert torch.equal(next(later).flatten(), described[4])
    assert torch.equal(next(later).flatten(), described[5])
