import numpy as np
import pytest
import torch

from tiny_ablation.errors import ConfigError, DataError
from tiny_ablation.sae.contexts import contexts, own_samples


def test_held_out_text_is_not_trained_on(toy_networks, small):
    found = contexts(toy_networks["llama"], small(), seed=0)
    assert found.held_out.shape == (8, 16)
    assert found.train.shape == (20, 16)
    flat = [tuple(row) for row in [*found.train, *found.held_out]]
    assert len(set(flat)) == len(flat)
    again, *others = (contexts(toy_networks["llama"], small(), seed=s) for s in (0, 1, 2, 3))
    assert np.array_equal(again.train, found.train)
    assert not all(np.array_equal(other.train, found.train) for other in others)


def test_text_that_stands_twice_is_used_once(toy_networks, small, tmp_path):
    text = (tmp_path / "text.txt").read_text()
    twice = tmp_path / "twice"
    twice.mkdir()
    for name in ("a.txt", "b.txt"):
        (twice / name).write_text(text)
    cfg = small(corpus=str(twice), tokens=10**6, held_out=64)
    found = contexts(toy_networks["llama"], cfg, seed=0)
    once = contexts(toy_networks["llama"], small(tokens=10**6, held_out=64), seed=0)
    assert np.array_equal(found.train, once.train)


def test_text_that_is_too_short_is_refused(toy_networks, small, tmp_path):
    (tmp_path / "short.txt").write_text("Paris")
    with pytest.raises(DataError, match=r"sae\.context"):
        contexts(toy_networks["llama"], small(corpus=str(tmp_path / "short.txt")), seed=0)


def test_contexts_longer_than_the_model_reads_are_refused(toy_networks, small):
    with pytest.raises(ConfigError, match=r"sae\.context=513: .* was made for 512 tokens"):
        contexts(toy_networks["llama"], small(context=513), seed=0)


def test_samples_are_what_the_plain_model_says(toy_networks):
    """Against sampling without a cache, token by token, from the same draws."""
    from tiny_ablation.config.seeds import derive_seed

    network, first = toy_networks["gpt2"], np.array([40, 50, 60], dtype=np.int32)
    found = own_samples(network, first, 3, 6, seed=4)
    draws = torch.Generator().manual_seed(derive_seed(4, "sae", "samples") % 2**63)
    ids = torch.tensor(first)[torch.randint(3, (3,), generator=draws)][:, None].long()
    for _ in range(5):
        logits = network.hf(input_ids=ids).logits[:, -1].softmax(-1)
        ids = torch.cat([ids, torch.multinomial(logits, 1, generator=draws)], 1)
    assert found.tolist() == ids.tolist()
    assert own_samples(network, first, 0, 6, seed=4).shape == (0, 6)
