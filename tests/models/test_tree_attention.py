"""Attention in chunks of a tree against softmax(q k / sqrt(d)) v written out node by node."""

import math
import random
from contextlib import nullcontext

import pytest
import torch

from tiny_ablation.models import tree_attention
from tiny_ablation.models.network import Network
from tiny_ablation.models.paths import prove_paths
from tiny_ablation.models.tree_attention import TreeAttention


def random_tree(nodes: int, seed: int) -> list[list[int]]:
    """For each node its ancestors and itself; several roots, branches one after the other."""
    rng, path, out = random.Random(seed), [], []
    for node in range(nodes):
        path = [*path[: rng.randrange(len(path) + 1) if rng.random() < 0.3 else len(path)], node]
        out.append(list(path))
    return out


@pytest.mark.parametrize("chunk", [1, 5, 16, 100])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2)])
def test_every_node_attends_to_its_ancestors_and_nothing_else(chunk, heads, kv_heads):
    runs, nodes, width = 2, 37, 8
    lines = random_tree(nodes, seed=chunk)
    sees = torch.zeros(nodes, nodes, dtype=torch.bool)
    for node, line in enumerate(lines):
        sees[node, line] = True
    generator = torch.Generator().manual_seed(1)
    draw = lambda n: torch.randn(runs, nodes, n, width, generator=generator).transpose(1, 2)  # noqa: E731
    q, k, v = draw(heads), draw(kv_heads), draw(kv_heads)
    found, _ = TreeAttention(sees, chunk)(None, q, k, v, None)
    for run in range(runs):
        for head in range(heads):
            kv = head // (heads // kv_heads)
            for node, line in enumerate(lines):
                weights = torch.tensor(
                    [math.exp(q[run, head, node].double() @ k[run, kv, other].double() / width**0.5) for other in line]
                )
                expected = sum(w * v[run, kv, other].double() for w, other in zip(weights / weights.sum(), line, strict=True))
                torch.testing.assert_close(found[run, node, head].double(), expected, atol=1e-6, rtol=0)


def test_the_scale_is_the_models_own():
    q, k, v = (torch.randn(1, 1, 3, 4, generator=torch.Generator().manual_seed(s)) for s in range(3))
    attend = TreeAttention(torch.ones(3, 3, dtype=torch.bool))
    expected = (q @ k.mT * 0.1).softmax(-1) @ v
    torch.testing.assert_close(attend(None, q, k, v, None, scaling=0.1)[0].transpose(1, 2), expected)


def probe(network: Network) -> bool:
    """The proof, made anew."""
    return prove_paths(network, 16).chunks


@pytest.mark.parametrize("shape", ["llama", "gpt2", "neox"])
def test_the_probe_lets_it_through_where_the_model_attends_by_the_interface(toy_networks, shape, monkeypatch):
    network = toy_networks[shape]
    before = network.hf.config._attn_implementation
    assert probe(network)
    assert network.hf.config._attn_implementation == before
    right = tree_attention._attend
    monkeypatch.setattr(tree_attention, "_attend", lambda q, k, v, m, s: 1.1 * right(q, k, v, m, s))
    assert not probe(network)


def test_a_model_that_attends_by_code_of_its_own_keeps_its_dense_mask(toy_networks, monkeypatch):
    monkeypatch.setattr(TreeAttention, "in_use", lambda *_: nullcontext())
    assert not probe(toy_networks["llama"])
