"""The arithmetic that the engine's own formulation needs, and how fast this machine does such arithmetic at best."""

import time
from collections.abc import Callable

import torch

from benchmarks.jobs import Job, executor
from tiny_ablation.engine.cost import edited_operations, pass_operations, peak_rate
from tiny_ablation.models.network import Network
from tiny_ablation.models.onednn_linear import fast_products


def multiply_adds(network: Network, job: Job) -> float:
    """Floating-point operations of the matrix products of all items.

    Every distinct node that an item can reach counts once in each block from the changed one on; the clean pass counts once,
    and that of the source prompts too. The guards' passes are not counted.
    """
    layers, total = network.shape.n_layers, 0.0
    run = executor(network, job, job.items)
    for batch in run.batches:
        block, end = pass_operations(network, batch)
        total += (block * layers + end) * (2 if job.sources else 1) + edited_operations(run, batch)
    return total


def peak_rates(network: Network, clock: Callable[[], float] = time.perf_counter, repeats: int = 9) -> dict[str, float]:
    """Operations a second at their best, measured in turn.

    Returns:
        `torch` for PyTorch's own product, and `engine` for the one that the engine takes, where that is another.
    """
    products, rates = fast_products(network), {"torch": 0.0, "engine": 0.0}
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
