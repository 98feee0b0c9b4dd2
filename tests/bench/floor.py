"""The arithmetic that the engine's own formulation needs, and how fast this machine does such arithmetic at best."""

import time
from collections.abc import Callable, Sequence

import torch

from tests.bench.ways import Heads, executor
from tiny_ablation.engine.cost import pass_operations, peak_rate
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.network import Network
from tiny_ablation.models.products import FastProducts


def multiply_adds(network: Network, prompts: Sequence[Prompt], heads: Heads) -> tuple[float, float]:
    """Floating-point operations of matrix products: once a batch, and for the heads.

    Every distinct node counts once per intervention in each block from the edited one on. The guards' passes are not counted.
    """
    layers = network.shape.n_layers
    once = each = 0.0
    for batch in executor(network, prompts, heads).batches:
        block, end = pass_operations(network, batch)
        once += block * layers + end
        each += sum(block * (layers - layer) + end for layer, _ in heads)
    return once, each


def peak_rates(
    network: Network, clock: Callable[[], float] = time.perf_counter, repeats: int = 9
) -> dict[str, float]:
    """Operations a second at their best, measured in turn.

    Returns:
        `torch` for PyTorch's own product, and `engine` for the one that the engine takes, where that is another.
    """
    products, rates = FastProducts(network), {"torch": 0.0, "engine": 0.0}
    for _ in range(repeats):
        rates["torch"] = max(rates["torch"], peak_rate(network, clock, repeats=1))
        with torch.inference_mode(), products.in_use():
            rates["engine"] = max(rates["engine"], peak_rate(network, clock, repeats=1))
    return rates


def timed(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds that the call takes."""
    start = clock()
    call()
    return clock() - start
