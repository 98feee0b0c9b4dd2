"""The arithmetic that the engine's own formulation needs, and how fast this machine does such arithmetic at best."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from tests.bench.ways import Heads, executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.network import Network
from tiny_ablation.models.products import FastProducts


def multiply_adds(network: Network, prompts: Sequence[Prompt], heads: Heads) -> tuple[float, float]:
    """Floating-point operations of matrix products: once a batch, and for the heads.

    Counted: every distinct node once per intervention in each block from the edited one on, attention between nodes that see
    each other, the last block's MLP and the unembedding at the answers only. Not counted: the guards' passes, norms,
    activations, softmax, rotary embeddings, metrics.
    """
    shape, layers = network.shape, network.shape.n_layers
    block = _weights(network.blocks[0])
    last_mlp = _weights(network.blocks[-1].get_submodule(str(network.names.mlp)))
    once = each = 0.0
    for batch in executor(network, prompts, heads).batches:
        rows, width = batch.ids.shape
        pairs = int(batch.sees.sum()) if batch.sees is not None else rows * width * (width + 1) // 2
        a_block = 2 * batch.n_nodes * block + 4 * pairs * shape.n_heads * shape.d_head
        answers = len(batch.read_nodes.unique())
        end = (
            2 * len(batch.read_nodes) * shape.d_model * shape.d_vocab
            - 2 * (batch.n_nodes - answers) * last_mlp
        )
        once += a_block * layers + end
        each += sum(a_block * (layers - layer) + end for layer, _ in heads)
    return once, each


def peak_rates(
    network: Network, clock: Callable[[], float] = time.perf_counter, rows: int = 2048, repeats: int = 9
) -> dict[str, float]:
    """Operations a second, at their best, of the products of one block's matrices with `rows` rows.

    Returns:
        `torch` for PyTorch's own product, and `engine` for the one that the engine takes, where that is another.
    """
    modules = [module for module in network.blocks[0].modules() if isinstance(module, nn.Linear)]
    inputs = [
        torch.randn(rows, module.in_features, generator=torch.Generator().manual_seed(0))
        for module in modules
    ]
    operations = 2 * rows * sum(module.weight.numel() for module in modules)
    products = FastProducts(network)

    def run() -> None:
        for x, module in zip(inputs, modules, strict=True):
            module(x)

    rates = {"torch": 0.0, "engine": 0.0}
    with torch.inference_mode():
        for _ in range(repeats):
            rates["torch"] = max(rates["torch"], operations / timed(run, clock))
            with products.in_use():
                rates["engine"] = max(rates["engine"], operations / timed(run, clock))
    return rates


def timed(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds that the call takes."""
    start = clock()
    call()
    return clock() - start


def _weights(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))
