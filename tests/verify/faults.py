"""Test support: a device whose matrix products are wrong, on the engine's path only.

The reference, which judges, runs on a device that is right; so whatever a fault does to a run must show in its verify slice.
"""

from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from tiny_ablation.engine.forward import Passes
from tiny_ablation.models.onednn_linear import FastProducts

Linear = Callable[..., torch.Tensor]
Fault = Callable[[Linear, Any], Linear]  # (the right product, the network) -> the wrong one


@contextmanager
def faulty(fault: Fault):
    """Within: `torch.nn.functional.linear` is `fault` while the engine runs the model, and nothing else is touched."""
    run, right = Passes._run, torch.nn.functional.linear
    made: dict[int, Linear] = {}  # by network, so that a fault may remember

    def on_a_bad_device(self, *args, **kwargs):
        product = made.setdefault(id(self.network), fault(right, self.network))
        torch.nn.functional.linear = product
        try:
            return run(self, *args, **kwargs)
        finally:
            torch.nn.functional.linear = right

    # The device has no other product than the one that is wrong.
    fast, FastProducts.in_use = FastProducts.in_use, lambda _: nullcontext()
    Passes._run = on_a_bad_device
    try:
        yield
    finally:
        Passes._run, FastProducts.in_use = run, fast


def sign_flip(layer: int, head: int) -> Fault:
    """The product of one head with its part of the output projection has the wrong sign."""

    def fault(right, network):
        projection = network.hook_point("z", layer).module.weight
        part = slice(head * network.shape.d_head, (head + 1) * network.shape.d_head)

        def linear(x, weight, bias=None):
            if weight is not projection:
                return right(x, weight, bias)
            x = x.clone()
            x[..., part] *= -1
            return right(x, weight, bias)

        return linear

    return fault


def drift(relative: float = 1e-3) -> Fault:
    """Every product is a little too large."""
    return lambda right, _network: lambda *args: right(*args) * (1 + relative)


def stale_buffer(layer: int) -> Fault:
    """The output projection of a layer writes into one buffer a shape, and gives out what it held from the former batch.

    The same prompt run twice in a row looks right, so no guard of the engine can see it.
    """

    def fault(right, network):
        projection = network.hook_point("z", layer).module.weight
        buffers: dict[Any, torch.Tensor] = {}

        def linear(x, weight, bias=None):
            if weight is not projection:
                return right(x, weight, bias)
            return buffers.setdefault(tuple(x.shape), right(x, weight, bias)).clone()

        return linear

    return fault
