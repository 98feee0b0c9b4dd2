"""How long the vector is that a head writes into the residual stream: what norm-matched controls are matched by.

Costs one clean pass over the prompts, shared prefixes once, and holds one batch of activations at a time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from tiny_ablation.engine.edits import PositionSpec
from tiny_ablation.engine.executor import TREE_NODES
from tiny_ablation.engine.forward import Passes
from tiny_ablation.engine.layout import build_batches
from tiny_ablation.engine.prompts import Prompt, sequences
from tiny_ablation.models.network import Network


@torch.inference_mode()
def head_norms(network: Network, prompts: Sequence[Prompt], positions: PositionSpec) -> Float64[np.ndarray, "n_layers n_heads"]:
    """The mean norm of `z_h W_O,h` over the prompts' tokens at `positions`.

    Each token counts as often as it stands in a prompt.
    """
    shape, layers = network.shape, network.shape.layers_with("z")
    total, n_tokens = torch.zeros(shape.n_layers, shape.n_heads, dtype=torch.float64), 0.0
    items, untagged = sequences(prompts, full=False), lambda _e, _p: None
    passes = Passes(network)
    for batch in build_batches(items, untagged, max_nodes=TREE_NODES, shared=True, limits=network.trees):
        counts = torch.zeros(batch.n_nodes, dtype=torch.float64)  # tokens at `positions` that a node stands for
        for strand, nodes in zip(batch.sequences, batch.nodes, strict=True):
            for position, node in enumerate(nodes):
                counts[node] += prompts[strand.example].covers(positions, position)
        cache = passes.clean(batch, [("z", layer) for layer in layers])
        for layer in layers:
            norms = head_outputs(network, layer, cache.at["z", layer]).double().norm(dim=-1).cpu()  # (n_heads, nodes)
            total[layer] += norms @ counts
        n_tokens += float(counts.sum())
    return (total / n_tokens).numpy()


def head_outputs(
    network: Network, layer: int, z: Float[Tensor, "nodes n_heads d_head"]
) -> Float[Tensor, "n_heads nodes d_model"]:
    """`z_h W_O,h` of each head.

    The projection runs on one head at a time, without its bias, so that it does not matter how the architecture stores it.
    """
    project = network.hook_point("z", layer).module
    alone = z.new_zeros(z.shape[1], *z.shape)
    for head in range(len(alone)):
        alone[head, :, head] = z[:, head]
    alone = alone.flatten(2)
    return project(alone) - project(torch.zeros_like(alone[:1, :1]))
