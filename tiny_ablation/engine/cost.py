"""What a plan costs before it runs, and how fast this machine multiplies matrices.

Only matrix products are counted: they are nearly all of the arithmetic, so `operations / peak_rate` is the time that no way
of running the same formulation can beat. Real runs take half as long again, for norms, activations, metrics and guards.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.layout import Batch
from tiny_ablation.models.network import Network


@dataclass(frozen=True)
class Cost:
    """The work of one executor.

    Attributes:
        examples: prompts.
        interventions: runs of each prompt beside the clean one.
        batches: groups of prompts that run together.
        tokens: of all prompts, one by one.
        nodes: tokens that are computed: a prefix that prompts share is one.
        forwards: whole forward passes of one prompt that the skipped blocks leave, the clean ones included.
        operations: floating-point operations of matrix products.
        memory: bytes that activations and logits of the largest pass take.
    """

    examples: int
    interventions: int
    batches: int
    tokens: int
    nodes: int
    forwards: float
    operations: float
    memory: int


def cost(executor: Executor) -> Cost:
    """The cost of a plan; lays its prompts out and runs nothing."""
    network, batches = executor.network, executor.batches
    layers = network.shape.n_layers
    blocks = sum(layers - run.start for run in executor.plan)
    passes = [_pass(network, batch) for batch in batches]
    return Cost(
        examples=len(executor.prompts),
        interventions=len(executor.plan),
        batches=len(batches),
        tokens=sum(len(prompt.ids) for prompt in executor.prompts),
        nodes=sum(batch.n_nodes for batch in batches),
        forwards=len(executor.prompts) * (1 + blocks / layers),
        # The guards repeat the clean pass once a batch.
        operations=sum(
            block * (2 * layers + blocks) + end * (2 + len(executor.plan)) for block, end in passes
        ),
        memory=max((_memory(network, batch, executor.batch_tokens) for batch in batches), default=0),
    )


def peak_rate(
    network: Network, clock: Callable[[], float] = time.perf_counter, rows: int = 2048, repeats: int = 9
) -> float:
    """Operations a second of the products of one block's matrices with `rows` rows, at their best."""
    weights = [module.weight for module in network.blocks[0].modules() if isinstance(module, nn.Linear)]
    inputs = [torch.randn(rows, w.shape[1], device=w.device, dtype=w.dtype) for w in weights]
    times = []
    with torch.inference_mode():
        for _ in range(repeats):
            start = clock()
            for x, weight in zip(inputs, weights, strict=True):
                nn.functional.linear(x, weight)
            _wait(network.device)
            times.append(clock() - start)
    return 2 * rows * sum(weight.numel() for weight in weights) / min(times)


def _pass(network: Network, batch: Batch) -> tuple[float, float]:
    """Operations of one block, and of the end of a pass (the last MLP and the unembedding are at the answers only)."""
    shape = network.shape
    rows, width = batch.ids.shape
    pairs = int(batch.sees.sum()) if batch.sees is not None else rows * width * (width + 1) // 2
    block = 2 * batch.n_nodes * _n_weights(network.blocks[0]) + 4 * pairs * shape.n_heads * shape.d_head
    unread = batch.n_nodes - len(batch.read_nodes.unique())
    last_mlp = _n_weights(network.blocks[-1].get_submodule(str(network.names.mlp)))
    return block, 2 * len(batch.read_nodes) * shape.d_model * shape.d_vocab - 2 * unread * last_mlp


def _memory(network: Network, batch: Batch, batch_tokens: int) -> int:
    shape = network.shape
    rows = max(batch.n_nodes, batch_tokens)
    activations = (
        rows * (4 * shape.d_mlp + 8 * shape.d_model) + batch.n_nodes * shape.d_model * shape.n_layers
    )
    logits = 3 * len(batch.read_nodes) * shape.d_vocab * max(1, rows // batch.n_nodes)
    return (activations + logits) * next(network.hf.parameters()).element_size()


def _n_weights(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
