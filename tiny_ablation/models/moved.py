"""A network for a while on another device and in another precision, without a second copy of its code.

Costs the converted weights, once, for as long as it lasts; nothing is wrapped, booted or copied again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tiny_ablation.models.network import Network


@contextmanager
def moved(network: Network, *, device: str, dtype: str) -> Iterator[Network]:
    """Within: the same weights elsewhere; afterwards the very tensors that were there before.

    Args:
        network: not to be used by anything else meanwhile.
        device: a torch device.
        dtype: the name of a torch floating-point type.
    """
    import torch

    kept = {id(t): (t, t.data) for module in (network.hf, network.bridge) for t in _tensors(module)}
    cfg: Any = network.bridge.cfg
    before = cfg.device
    try:
        cfg.device = device
        for tensor, data in kept.values():
            tensor.data = data.to(device, getattr(torch, dtype) if data.is_floating_point() else data.dtype)
        yield network
    finally:
        cfg.device = before
        for tensor, data in kept.values():
            tensor.data = data


def _tensors(module: Any) -> list[Any]:
    return [*module.parameters(), *module.buffers()]
