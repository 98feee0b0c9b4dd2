"""A network for a while on another device and in another precision, without a second copy of its code.

Costs the converted weights, once, for as long as it lasts; nothing is wrapped, booted or copied again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tiny_ablation.models.network import Network
from tiny_ablation.models.precision import convert


@contextmanager
def moved(network: Network, *, device: str, dtype: str) -> Iterator[Network]:
    """Within: the same weights elsewhere; afterwards the very tensors that were there before.

    Args:
        network: not to be used by anything else meanwhile.
        device: a torch device.
        dtype: the name of a torch floating-point type.
    """
    import torch

    parts = torch.nn.ModuleList([network.hf, network.bridge])  # which share most tensors
    kept = [(tensor, tensor.data) for tensor in (*parts.parameters(), *parts.buffers())]
    cfg: Any = network.bridge.cfg
    before = cfg.device
    try:
        cfg.device = device
        convert(parts, device=device, dtype=dtype)
        yield network
    finally:
        cfg.device = before
        for tensor, data in kept:
            tensor.data = data
