"""Which fast ways of computing a pass give what the bare model gives, proven on it at prompts as long as a run's longest.

- *resuming*: blocks in front of the first edited one are not run;
- *prefix trees*: prompts that share a beginning are computed in one row, under a mask and with positions of our own;
- *chunks*: attention in such a tree takes queries in groups of neighbours;
- *products*: oneDNN multiplies the matrices;
- *last MLP*: it runs on the tokens that are read.

The judge is the model as transformers runs it, one unpadded prompt at a time. A way that does not agree with it is switched off
and reported. Ways that may be used together are tried together, and one by one if that fails. Costs about seven passes over a
few tokens, three of which are as long as the longest prompt.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tiny_ablation.errors import first_line
from tiny_ablation.models.architectures import length_class, resume_limit, window
from tiny_ablation.models.fast import TreeLimits, mlp_on, resumed, tree_inputs
from tiny_ablation.models.judge import SHORTEST, Judge, Prompt, Tree, Way, difference, keeping_what_enters, logits_of, tree_of
from tiny_ablation.models.onednn_linear import available, fast_products
from tiny_ablation.models.placed import weight_like
from tiny_ablation.models.tree_attention import TreeAttention

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network

_PRODUCTS, _LAST_MLP, _CHUNKS = "oneDNN products", "last MLP on few tokens", "attention in chunks"


@dataclass(frozen=True)
class Paths:
    """What may be used on prompts of some length."""

    resume: int | None  # the last block at which a pass may begin; None if every pass runs the whole model
    trees: TreeLimits  # which prompts may share a prefix tree
    chunks: bool  # attention in a tree may be computed in chunks
    products: bool  # oneDNN may multiply
    last_mlp: bool  # the last MLP may run on the tokens that are read only
    off: dict[str, str] = field(default_factory=dict)  # what may not be used, and why


def round_up(longest: int, context: int | None) -> int:
    """The length that is proven for prompts of at most `longest` tokens: a power of two, if the model can read so many."""
    size = max(SHORTEST, 2 ** (longest - 1).bit_length())
    return max(longest, min(size, context or size))


def prove_paths(network: "Network", longest: int, off: dict[str, str] | None = None) -> Paths:
    """Which fast ways agree with the bare model on prompts of up to `longest` tokens; `off` if that was found out before.

    Raises:
        ModelError: prompts in one batch change each other, or the logits are not made of the residual stream token by token.
    """
    if off is None:
        with torch.no_grad():
            off = _found_off(Judge(network), longest)
    return _allowed(network, off)


def _allowed(network: "Network", off: dict[str, str]) -> Paths:
    """The ways that this machine, the model's architecture and what was found leave."""
    config, shape = network.hf.config, network.shape
    weight = weight_like(network.hf)
    limits, limit = TreeLimits(window(config), length_class(config)), resume_limit(config, shape.n_layers)
    # On other devices than a CPU one dense product is faster than many small ones.
    small_products = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
    whole = limit == shape.n_layers - 1 and shape.n_layers == len(shape.layers_with("z"))
    return Paths(
        resume=None if "resuming" in off else limit,
        trees=limits._replace(nodes=0) if "prefix trees" in off else limits,
        chunks=small_products and whole and not {"resuming", "prefix trees", _CHUNKS} & {*off},
        products=_PRODUCTS not in off and available(network),
        last_mlp=_LAST_MLP not in off and network.parts[-1].mlp is not None,
        off=off,
    )


def _found_off(judge: Judge, longest: int) -> dict[str, str]:
    """Which ways do not agree with the bare model, and why."""
    network, off = judge.network, {}
    allowed = _allowed(network, off)
    limit = allowed.resume or 0
    # The middle block and the last of each kind, of those at which a pass may begin.
    last: dict[Any, int] = {}
    for layer, part in enumerate(network.parts[: limit + 1]):
        last[type(part.module), tuple(part.points), tuple(type(m) for m in part.module.children())] = layer
    starts = sorted({limit // 2, *last.values()})
    long, *small = judge.prompts([longest, *[min(longest, SHORTEST)] * 2], [*starts, limit])
    ways: dict[str, Way] = {}  # of computing a batch of these prompts that this machine and model may have
    if allowed.products:
        ways[_PRODUCTS] = fast_products(network).in_use
    if allowed.last_mlp:
        ways[_LAST_MLP] = lambda: _last_mlp(network.parts[-1].mlp, len(small), len(small[0].ids))
    if _fault("all", lambda: judge.fault_of_rows(small, ways.values())):
        judge.check_rows(small)
        for name, way in ways.items():
            off |= _fault(name, lambda way=way: judge.fault_of_rows(small, [way]))
    # What is proven may be used in the proofs that follow, as it will be in a run.
    with fast_products(network).in_use() if _PRODUCTS in {*ways} - {*off} else nullcontext():
        off |= _fault("resuming", lambda: _resuming(judge, [(long, [limit]), (small[0], starts)]))
        tree = tree_of(judge, [long, *small], allowed.trees)
        off |= _fault("prefix trees", lambda: difference(logits_of(tree.prompts), judge.tree(tree)))
        if _allowed(network, off).chunks:
            off |= _fault(_CHUNKS, lambda: _chunks(judge, tree))
    return off


def _fault(path: str, check: Callable[[], str | None]) -> dict[str, str]:
    """What is wrong with a path, by its name; nothing where it agrees."""
    try:
        fault = check()
    except Exception as error:  # a model may refuse masks, positions or subsets of tokens in any way
        fault = first_line(error)
    return {path: fault} if fault else {}


def _resuming(judge: Judge, asked: list[tuple[Prompt, list[int]]]) -> str | None:
    """Resume prompts at some blocks each; two copies at once. Fails where a block has no residual stream to begin with."""
    for prompt, starts in asked:
        for start in starts:
            judge.network.hook_point("resid_pre", start)  # or the reason why there is none
            with resumed(judge.network.parts, start, prompt.entering[start].repeat(2, 1, 1)):
                found = judge.last(prompt.ids.repeat(2, 1))
            for row in found:
                if fault := difference(prompt.logits, row[None]):
                    return f"begun at block {start}, {fault}"
    return None


def _chunks(judge: Judge, tree: Tree) -> str | None:
    """The whole tree in small chunks; then one prompt alone, from the middle block on, with the others' keys and values."""
    network, start = judge.network, judge.network.shape.n_layers // 2
    attention, entering = TreeAttention(tree.sees, chunk=2), {}
    with attention.in_use(network.hf, keep=True), keeping_what_enters(network, [start], entering):
        found = judge.tree(tree)
    if len(attention.kept) != network.shape.n_layers:
        return f"{len(attention.kept)} calls of the shared attention function in {network.shape.n_layers} blocks"
    fault = difference(logits_of(tree.prompts), found)
    if fault:
        return fault
    nodes = tree.sees[tree.last[-1]].nonzero()[:, 0]
    part = attention.only(nodes, attention.kept[start:])
    sees, at = tree.sees[nodes][:, nodes], torch.tensor([len(nodes) - 1])
    with part.in_use(network.hf), resumed(network.parts, start, entering[start][:, nodes]):
        inputs = tree_inputs(tree.positions[:, nodes], sees, 1, judge.weight)
        found = judge.last(tree.ids[:, nodes], at, **inputs)
    return difference(tree.prompts[-1].logits, found)


def _last_mlp(mlp: Any, rows: int, width: int) -> AbstractContextManager[None]:
    """Within: the last MLP runs on the last token of each row."""
    shape: list[Any] = []

    def gather(x: Tensor) -> Tensor:
        shape.append(x.shape)
        return x.reshape(rows, width, x.shape[-1])[:, -1:]

    def scatter(y: Tensor) -> Tensor:
        whole = y.new_zeros(rows, width, y.shape[-1])
        whole[:, -1:] = y.view(rows, 1, -1)
        return whole.view(*shape.pop()[:-1], -1)

    return mlp_on(mlp, gather, scatter)
