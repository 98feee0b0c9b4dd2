"""What a plan costs before it runs, and how fast this machine multiplies matrices.

Only matrix products are counted: they are nearly all of the arithmetic, so `operations / peak_rate` is the time that no way
of running the same formulation can beat. Norms, activations, metrics and guards come on top (docs/performance.md).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
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
    """The work of one executor.

    Attributes:
        examples: prompts.
        interventions: runs of each prompt beside the clean one.
        batches: groups of prompts that run together.
        tokens: of all prompts, one by one.
        nodes: tokens that are computed: a prefix that prompts share is one.
        forwards: whole forward passes of one prompt that skipped blocks leave, clean ones included; all tokens count.
        operations: floating-point operations of matrix products.
        memory: bytes that activations and logits of the largest pass take.
        written: tokens that are written at most.
        kept: whether keys and values are kept while they are; else every token takes a pass over the whole text.
    """

    examples: int
    interventions: int
    batches: int
    tokens: int
    nodes: int
    forwards: float
    operations: float
    memory: int
    written: int = 0
    kept: bool = True


def cost(executor: Executor) -> Cost:
    """The cost of a plan; lays its prompts out and runs nothing but what finds out whether keys and values may be kept."""
    if isinstance(executor, Generation):
        return _cost_of_writing(executor)
    network, batches = executor.network, executor.batches
    layers, whole = network.shape.n_layers, [pass_operations(network, batch) for batch in batches]
    blocks = sum(layers - run.start for run in executor.plan)
    return Cost(
        examples=len(executor.prompts),
        interventions=len(executor.plan),
        batches=len(batches),
        tokens=sum(len(prompt.ids) for prompt in executor.prompts),
        nodes=sum(batch.n_nodes for batch in batches),
        forwards=len(executor.prompts) * (1 + blocks / layers),
        # The guards repeat the clean pass once a batch.
        operations=sum(
            2 * (block * layers + end) + edited_operations(executor, batch)
            for batch, (block, end) in zip(batches, whole, strict=True)
        ),
        memory=max((_memory(network, batch, executor.batch_tokens) for batch in batches), default=0),
    )


def _cost_of_writing(executor: Generation) -> Cost:
    """Every run writes as much as it may; runs of prompts, and a token each, or the whole text anew for each token."""
    network, batches, new = executor.network, executor.batches, executor.decoding.max_new_tokens
    shape, runs = network.shape, 1 + len(executor.plan)
    examples, tokens = len(executor.prompts), sum(len(prompt.ids) for prompt in executor.prompts)
    nodes = sum(batch.n_nodes for batch in batches)
    of_token = 2.0 * (_n_weights(network.blocks[0]) * shape.n_layers + shape.d_model * shape.d_vocab)
    passed = tokens + examples * (new - 1)
    if not executor.keeps:
        passed = nodes * new + examples * new * (new - 1) // 2
    clean = 2 * sum(block * shape.n_layers + end for block, end in (pass_operations(network, b) for b in batches))
    return Cost(
        examples=examples,
        interventions=len(executor.plan),
        batches=len(batches),
        tokens=tokens,
        nodes=nodes,
        forwards=runs * passed / (tokens / examples),
        operations=clean + runs * passed * of_token,
        memory=max((_memory(network, batch, executor.batch_tokens) for batch in batches), default=0),
        written=len(executor.plan) * examples * new,
        kept=executor.keeps,
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
            _wait(network.device)
            times.append(clock() - start)
    return 2 * rows * _n_weights(network.blocks[0]) / min(times)


def pass_operations(network: Network, batch: Batch, only: Tensor | None = None) -> tuple[float, float]:
    """Operations of one block, and of the end of a pass (the last MLP and the unembedding are at the answers only).

    Args:
        network: the model.
        batch: the prompts.
        only: (k,) the nodes that are computed; None for all.

    Counted: the matrices for every distinct node, and attention between nodes that see each other. Not counted: norms,
    activations, softmax, rotary embeddings, metrics.
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


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
