"""What a plan costs before it runs, and how fast this machine multiplies matrices.

Only matrix products are counted: they are nearly all of the arithmetic, so `operations / peak_rate` is the time that no way
of running the same formulation can beat. Norms, activations, metrics and guards come on top (docs/performance.md).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.generation import Generation
from tiny_ablation.engine.layout import Batch
from tiny_ablation.models.network import Network
from tiny_ablation.models.onednn_linear import matrix
from tiny_ablation.models.placed import weight_like
from tiny_ablation.models.quantized import PackedLinear


@dataclass(frozen=True)
class Cost:
    """The work of one executor."""

    examples: int  # prompts
    interventions: int  # runs of each prompt beside the clean one
    batches: int  # groups of prompts that run together
    tokens: int  # of all prompts, one by one
    nodes: int  # tokens that are computed: a prefix that prompts share is one
    forwards: float  # whole forward passes of one prompt that skipped blocks leave, clean ones included; all tokens count
    operations: float  # floating-point operations of matrix products
    memory: int  # bytes that activations and logits of the largest pass take
    written: int = 0  # tokens that are written at most
    kept: bool = True  # whether keys and values are kept while they are; else every token takes a pass over the whole text


def cost(executor: Executor) -> Cost:
    """The cost of a plan; lays its prompts out and runs nothing but what finds out whether keys and values may be kept."""
    network, batches, plan = executor.network, executor.batches, executor.plan
    shape, examples = network.shape, len(executor.prompts)
    tokens, nodes = sum(len(prompt.ids) for prompt in executor.prompts), sum(batch.n_nodes for batch in batches)
    whole = [pass_operations(network, batch) for batch in batches]
    # The guards repeat the clean pass once a batch.
    operations = 2 * sum(block * shape.n_layers + end for block, end in whole)
    written, kept = 0, True
    if isinstance(executor, Generation):
        # Every run writes as much as it may; runs of prompts, and a token each, or the whole text anew for each token.
        runs, new, kept = 1 + len(plan), executor.decoding.max_new_tokens, executor.keeps
        passed = tokens + examples * (new - 1) if kept else nodes * new + examples * new * (new - 1) // 2
        operations += runs * passed * 2.0 * (_n_weights(network.blocks[0]) * shape.n_layers + shape.d_model * shape.d_vocab)
        forwards, written = runs * passed / (tokens / examples), len(plan) * examples * new
    else:
        operations += sum(edited_operations(executor, batch) for batch in batches)
        forwards = examples * (1 + sum(shape.n_layers - run.start for run in plan) / shape.n_layers)
    return Cost(
        examples=examples,
        interventions=len(plan),
        batches=len(batches),
        tokens=tokens,
        nodes=nodes,
        forwards=forwards,
        operations=operations,
        memory=max((_memory(network, batch, executor.batch_tokens) for batch in batches), default=0),
        written=written,
        kept=kept,
    )


def edited_operations(executor: Executor, batch: Batch) -> float:
    """Operations of all interventions on one batch: each takes the nodes that it can reach, from its first block on."""
    network, layers, shares = executor.network, executor.network.shape.n_layers, executor.shares(batch)
    block, end = pass_operations(network, batch)
    kept = {share.made: share.made[0].layer for share in shares if share.made}
    total = sum(block * (layers - start) + end for start in kept.values())
    for share in shares:
        block, end = pass_operations(network, batch, share.only)
        total += len(share.runs) * (block * (layers - share.start) + end)
    return total


def peak_rate(network: Network, clock: Callable[[], float] = time.perf_counter, rows: int = 2048, repeats: int = 9) -> float:
    """Operations a second of the products of one block's matrices with `rows` rows, at their best.

    Within `FastProducts.in_use()` it is the rate of those.
    """
    modules = list(_multipliers(network.blocks[0]))
    like = weight_like(network.hf)
    inputs = [torch.randn(rows, width, device=like.device, dtype=like.dtype) for _, (_, width) in modules]
    times = []
    with torch.inference_mode():
        for _ in range(repeats):
            start = clock()
            for x, (module, _) in zip(inputs, modules, strict=True):
                module(x)
            if network.device.startswith("cuda"):
                torch.cuda.synchronize()
            times.append(clock() - start)
    return 2 * rows * _n_weights(network.blocks[0]) / min(times)


def pass_operations(network: Network, batch: Batch, only: Int[Tensor, "k"] | None = None) -> tuple[float, float]:
    """Operations of one block, and of the end of a pass (the last MLP and the unembedding are at the answers only).

    `only` is the nodes that are computed; None for all. Counted: the matrices for every distinct node, and attention
    between nodes that see each other. Not counted: norms, activations, softmax, rotary embeddings, metrics.
    """
    shape = network.shape
    rows, width = batch.ids.shape
    if batch.sees is not None:
        pairs = int((batch.sees if only is None else batch.sees[only]).sum())
    else:
        pairs = rows * width * (width + 1) // 2
    part = batch if only is None else batch.only(only)
    block = 2 * part.n_nodes * _n_weights(network.blocks[0]) + 4 * pairs * shape.n_heads * shape.d_head
    unread = part.n_nodes - len(part.read_nodes.unique())
    last_mlp = 0 if network.parts[-1].mlp is None else _n_weights(network.parts[-1].mlp)
    return block, 2 * len(part.read_nodes) * shape.d_model * shape.d_vocab - 2 * unread * last_mlp


def _memory(network: Network, batch: Batch, batch_tokens: int) -> int:
    shape = network.shape
    rows = max(batch.n_nodes, batch_tokens)
    activations = rows * (4 * shape.d_mlp + 8 * shape.d_model) + batch.n_nodes * shape.d_model * shape.n_layers
    logits = 3 * len(batch.read_nodes) * shape.d_vocab * max(1, rows // batch.n_nodes)
    return (activations + logits) * weight_like(network.hf).element_size()


def _n_weights(module: nn.Module) -> int:
    return sum(rows * columns for _, (rows, columns) in _multipliers(module))


def _multipliers(module: nn.Module) -> Iterator[tuple[nn.Module, tuple[int, int]]]:
    """The modules within that multiply by a matrix and do nothing else, and (out, in) of each."""
    for each in module.modules():
        if isinstance(each, PackedLinear):
            yield each, each.shape  # its weight is unpacked at each call
        elif (weight := matrix(each)) is not None:
            yield each, (weight.shape[0], weight.shape[1])
