"""How long the vector is that a head writes into the residual stream: what norm-matched controls are matched by.

Costs one clean pass over the prompts, shared prefixes once, and holds one batch of activations at a time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tiny_ablation.engine.edits import PositionSpec
from tiny_ablation.engine.executor import TREE_NODES
from tiny_ablation.engine.forward import Passes
from tiny_ablation.engine.layout import Batch, build_batches
from tiny_ablation.engine.prompts import Prompt, sequences
from tiny_ablation.models.network import Network


@torch.inference_mode()
def head_norms(network: Network, prompts: Sequence[Prompt], positions: PositionSpec) -> np.ndarray:
    """(n_layers, n_heads): the mean norm of `z_h W_O,h` over the prompts' tokens at `positions`.

    Args:
        network: the model.
        prompts: whose tokens count, each as often as it stands in a prompt.
        positions: which of them.
    """
    shape, layers = network.shape, network.shape.layers_with("z")
    total, n_tokens = torch.zeros(shape.n_layers, shape.n_heads, dtype=torch.float64), 0.0
    batches = build_batches(
        sequences(prompts, full=False), lambda _e, _p: None, max_nodes=TREE_NODES, shared=True, limits=network.trees
    )
    passes = Passes(network)
    for batch in batches:
        counts = _counts(batch, prompts, positions)
        cache = passes.clean(batch, [("z", layer) for layer in layers])
        total[layers] += torch.stack([_norms(network, layer, cache.at["z", layer]) @ counts for layer in layers])
        n_tokens += float(counts.sum())
    return (total / n_tokens).numpy()


def _counts(batch: Batch, prompts: Sequence[Prompt], positions: PositionSpec) -> Tensor:
    """(nodes,) float64: how many tokens at `positions` a node stands for."""
    counts = torch.zeros(batch.n_nodes, dtype=torch.float64)
    for strand, nodes in zip(batch.sequences, batch.nodes, strict=True):
        for position, node in enumerate(nodes):
            counts[node] += prompts[strand.example].covers(positions, position)
    return counts


def _norms(network: Network, layer: int, z: Tensor) -> Tensor:
    """(n_heads, nodes) float64, from z (nodes, n_heads, d_head)."""
    return head_outputs(network, layer, z).double().norm(dim=-1).cpu()


def head_outputs(network: Network, layer: int, z: Tensor) -> Tensor:
    """(n_heads, nodes, d_model): `z_h W_O,h` of each head, from z (nodes, n_heads, d_head).

    The projection runs on one head at a time, without its bias, so that it does not matter how the architecture stores it.
    """
    project = network.hook_point("z", layer).module
    alone = z.new_zeros(z.shape[1], *z.shape)
    for head in range(len(alone)):
        alone[head, :, head] = z[:, head]
    alone = alone.flatten(2)
    return project(alone) - project(torch.zeros_like(alone[:1, :1]))
