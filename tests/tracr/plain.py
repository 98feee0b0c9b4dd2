"""A Tracr transformer as a plain loop in float64: what the shipped programs and the engine are judged by.

One prompt at a time, no batching, no torch, no code of the tool. Shapes: d = residual width, H heads of width k.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Head = tuple[int, int]
Weights = Mapping[str, np.ndarray]


def read(program: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The dense float64 weights of a shipped program: its file holds the indices and values that are not 0."""
    out = {}
    for name, shape in program["shapes"].items():
        flat = np.zeros(int(np.prod(shape)))
        if f"{name}.index" in tensors:
            flat[tensors[f"{name}.index"]] = tensors[f"{name}.value"]
        out[name] = flat.reshape(shape)
    return out


def logits(weights: Weights, ids: Sequence[int], zeroed: Sequence[Head] = (), z: dict[Head, Any] | None = None) -> Any:
    """(seq, outputs): attention without a causal mask, ReLU, no norms.

    Args:
        weights: from `read`.
        ids: the prompt, beginning of sequence first.
        zeroed: heads whose z is set to zero.
        z: receives what each head writes, (seq, k), before it is zeroed.
    """
    x = weights["embed"][list(ids)] + weights["position"][: len(ids)]  # (seq, d)
    n_layers, n_heads, _, width = weights["query"].shape  # (layers, H, d, k)
    for layer in range(n_layers):
        written = np.zeros_like(x)
        for head in range(n_heads):
            query, key, value = (x @ weights[name][layer, head] for name in ("query", "key", "value"))
            score = query @ key.T / np.sqrt(width)  # (seq, seq)
            share = np.exp(score - score.max(1, keepdims=True))
            mixed = share / share.sum(1, keepdims=True) @ value
            if z is not None:
                z[layer, head] = mixed
            if (layer, head) not in zeroed:
                written += mixed @ weights["output"][layer, head]
        x = x + written
        hidden = np.maximum(x @ weights["mlp_in"][layer] + weights["mlp_in_bias"][layer], 0)
        x = x + hidden @ weights["mlp_out"][layer] + weights["mlp_out_bias"][layer]
    return x @ weights["unembed"]
