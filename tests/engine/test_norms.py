"""Norms of head outputs against the bare Hugging Face model, one unpadded prompt and a slice of the weights at a time."""

import pytest
import torch

from tests.conftest import SHAPES
from tiny_ablation.engine.norms import head_norms


def by_hand(network, prompts, last):
    """Mean norm of z_h W_O,h from a hand-written hook and slices of the projection's weight."""
    shape, rows = network.shape, []
    for layer in range(shape.n_layers):
        project, seen = network.hook_point("z", layer).module, []
        weight = project.weight.detach()
        if type(project).__name__ != "Conv1D":  # a Linear stores the transpose
            weight = weight.T
        handle = project.register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0][0]))
        with torch.no_grad():
            for prompt in prompts:
                network.hf(input_ids=torch.tensor([prompt.ids]))
        handle.remove()
        z = torch.cat([s[-1:] if last else s for s in seen]).unflatten(-1, (shape.n_heads, shape.d_head))
        slices = weight.reshape(shape.n_heads, shape.d_head, -1)
        rows.append(torch.stack([(z[:, h] @ slices[h]).norm(dim=-1).mean() for h in range(shape.n_heads)]))
    return torch.stack(rows)


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_a_plain_computation(toy_networks, make_prompts, shape, positions):
    network = toy_networks[shape]
    prompts = make_prompts(network.shape.d_vocab)
    found = torch.tensor(head_norms(network, prompts, positions))
    expected = by_hand(network, prompts, positions == "last").double()
    assert expected.min() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
