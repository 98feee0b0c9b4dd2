"""Which fast ways of computing a pass give what the bare model gives, proven on it at prompts as long as a run's longest.

- *resuming*: blocks in front of the first edited one are not run;
- *prefix trees*: prompts that share a beginning are computed in one row, under a mask and with positions of our own;
- *chunks*: attention in such a tree takes queries in groups of neighbours;
- *products*: oneDNN multiplies the matrices;
- *last MLP*: it runs on the tokens that are read.

The judge is the model as transformers runs it, one unpadded prompt at a time. What does not agree with it is switched off by
itself, and said. Costs about ten passes over a few tokens, three of which are as long as the longest prompt.
"""

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tiny_ablation.errors import ModelError
from tiny_ablation.models.architectures import length_class, resume_limit, window
from tiny_ablation.models.discovery import probe_ids
from tiny_ablation.models.fast import mlp_on, read_at, resumed, tree_inputs
from tiny_ablation.models.onednn_linear import available, fast_products
from tiny_ablation.models.tree_attention import TreeAttention

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network

_SHORTEST = 16  # tokens; shorter prompts are proven at this length
# Of the largest logit: what two right ways of summing differ by at most, several times over.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.1}


class TreeLimits(NamedTuple):
    """Which prompts a model computes exactly in one prefix tree.

    Attributes:
        nodes: how many nodes a tree may have; 0 where the model computes none.
        length_class: of a prompt's number of tokens; prompts of two classes must not share a pass of any form.
    """

    nodes: float = math.inf
    length_class: Callable[[int], Hashable] = lambda _: 0


@dataclass(frozen=True)
class Paths:
    """What may be used on prompts of some length.

    Attributes:
        resume: the last block at which a pass may begin; None where every pass runs the whole model.
        trees: which prompts may share a prefix tree.
        chunks: whether attention in a tree may be computed in chunks.
        products: whether oneDNN may multiply.
        last_mlp: whether the last MLP may run on the tokens that are read only.
        off: what may not, and why.
    """

    resume: int | None
    trees: TreeLimits
    chunks: bool
    products: bool
    last_mlp: bool
    off: dict[str, str] = field(default_factory=dict)


def round_up(longest: int, context: int | None) -> int:
    """The length that is proven for prompts of at most `longest` tokens: a power of two, if the model can read so many."""
    size = max(_SHORTEST, 2 ** (longest - 1).bit_length())
    return max(longest, min(size, context or size))


def prove_paths(network: "Network", longest: int) -> Paths:
    """Which fast ways agree with the bare model on prompts of up to `longest` tokens.

    Raises:
        ModelError: prompts in one batch change each other, or the logits are not made of the residual stream token by token.
    """
    judge = _Judge(network)
    with torch.no_grad():
        return _prove(judge, longest)


def _prove(judge: "_Judge", longest: int) -> Paths:
    network, off = judge.network, {}
    config = network.hf.config
    small = judge.prompts([min(longest, _SHORTEST)] * 2)
    judge.check_rows(small)
    resume: int | None = resume_limit(config, network.shape.n_layers)
    off |= _fault("resuming", lambda: _resuming(judge, small, judge.prompts([longest]), resume or 0))
    limits = TreeLimits(window(config), length_class(config))
    tree = _tree_of(judge, longest, limits)
    off |= _fault("prefix trees", lambda: difference(tree.prompts.logits, judge.tree(tree)))
    whole = (
        network.shape.n_layers == len(network.shape.layers_with("z")) and resume == network.shape.n_layers - 1
    )
    chunks = not off and whole and judge.may_chunk
    if chunks:
        off |= _fault("attention in chunks", lambda: _chunks(judge, tree))
    products = available(network)
    if products:
        off |= _fault("oneDNN products", lambda: _products(judge, small))
    last_mlp = network.parts[-1].mlp is not None
    if last_mlp:
        off |= _fault("last MLP on few tokens", lambda: _last_mlp(judge, small))
    return Paths(
        resume=None if "resuming" in off else resume,
        trees=limits._replace(nodes=0) if "prefix trees" in off else limits,
        chunks=chunks and "attention in chunks" not in off,
        products=products and "oneDNN products" not in off,
        last_mlp=last_mlp and "last MLP on few tokens" not in off,
        off=off,
    )


class _Prompts(NamedTuple):
    """Prompts, and what the bare model makes of the last token of each."""

    ids: list[Tensor]  # (n,) each
    logits: Tensor  # (prompts, d_vocab)


class _Tree(NamedTuple):
    """Prompts in a prefix tree: a row of nodes, their positions, which see which, and the last node of each prompt."""

    prompts: _Prompts
    ids: Tensor  # (1, nodes)
    positions: Tensor  # (1, nodes)
    sees: Tensor  # (nodes, nodes) bool
    last: Tensor  # (prompts,)


class _Judge:
    """Runs the model in the ways that are compared."""

    def __init__(self, network: "Network") -> None:
        self.network = network
        self.weight = next(network.hf.parameters())

    @property
    def may_chunk(self) -> bool:
        """On other devices than a CPU one dense product is faster than many small ones."""
        return self.weight.device.type == "cpu" and self.weight.dtype in (torch.float32, torch.float64)

    def prompts(self, lengths: list[int]) -> _Prompts:
        """Prompts of these lengths that share half of their beginning, each run by itself."""
        ids = []
        for i, n in enumerate(lengths):
            prompt = probe_ids(self.network.hf, n)[0].clone()
            prompt[n // 2 :] = probe_ids(self.network.hf, n, first=(i + 1) * max(lengths))[0, n // 2 :]
            ids.append(prompt)
        return _Prompts(ids, torch.cat([self.last(prompt[None]) for prompt in ids]))

    def last(self, ids: Tensor, at: Tensor | None = None, **inputs: Any) -> Tensor:
        """(rows or reads, d_vocab): logits at the last token of each row, or at some nodes of the only one."""

        def select(x: Tensor) -> Tensor:
            return x[:, -1:] if at is None else x[:, at]

        with read_at(self.network.unembed, select):
            return self.network.forward(ids, **inputs).logits.flatten(0, 1)

    def tree(self, tree: _Tree) -> Tensor:
        """(prompts, d_vocab) by one pass over a tree."""
        return self.last(tree.ids, tree.last, **tree_inputs(tree.positions, tree.sees, 1, self.weight))

    def check_rows(self, prompts: _Prompts) -> None:
        """Refuse a model whose rows are not what they are alone, or whose logits cannot be read at some tokens only."""
        name = self.network.model.name
        if fault := difference(prompts.logits, self.last(torch.stack(prompts.ids))):
            raise ModelError(f"model {name}: prompts that stand in one batch change each other: {fault}")
        whole = self.network.forward(prompts.ids[0][None]).logits[:, -1]
        if fault := difference(whole, prompts.logits[:1]):
            raise ModelError(f"model {name}: its unembedding cannot be run on a few tokens: {fault}")


def difference(logits: Tensor, found: Tensor) -> str | None:
    """None where two ways of computing logits agree but for rounding, else by how much they differ, in words."""
    error = ((found - logits).abs().max() / logits.abs().max().clamp_min(1e-6)).item()
    if error <= _TOLERANCE[logits.dtype]:
        return None
    return f"logits differ from the bare model's by {error:.1e} of their size"


def _fault(path: str, check: Callable[[], str | None]) -> dict[str, str]:
    """What is wrong with a path, by its name; nothing where it agrees."""
    try:
        fault = check()
    except Exception as error:  # a model may refuse masks, positions or subsets of tokens in any way
        fault = (str(error).strip() or type(error).__name__).splitlines()[0]
    return {path: fault} if fault else {}


def _resuming(judge: _Judge, small: _Prompts, long: _Prompts, limit: int) -> str | None:
    """Resume at the last block that may be, and at the last of each kind; two copies at once."""
    kinds = {_kind(part): layer for layer, part in enumerate(judge.network.parts) if layer <= limit}
    for prompts, starts in ((long, [limit]), (small, sorted({limit // 2, *kinds.values()}))):
        entering: dict[int, Tensor] = {}
        with _keeping_what_enters(judge.network, starts, entering):
            judge.last(prompts.ids[0][None])
        for start in starts:
            with resumed(judge.network.parts, start, entering[start].repeat(2, 1, 1)):
                found = judge.last(prompts.ids[0].repeat(2, 1))
            for row in found:
                if fault := difference(prompts.logits[:1], row[None]):
                    return f"begun at block {start}, {fault}"
    return None


def _kind(part: Any) -> tuple[Any, ...]:
    return type(part.module), tuple(part.points), tuple(type(m) for m in part.module.children())


@contextmanager
def _keeping_what_enters(network: "Network", layers: list[int], into: dict[int, Tensor]) -> Iterator[None]:
    handles = [
        network.hook_point("resid_pre", layer).attach(lambda x, layer=layer: into.update({layer: x.clone()}))
        for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tree_of(judge: _Judge, longest: int, limits: TreeLimits) -> _Tree:
    """A tree of prompts that may share one, as long as may be."""
    fits = longest if 2 * longest <= limits.nodes else max(2, int(limits.nodes) // 3)
    lengths = [
        n for n in (fits - fits // 4, min(3, fits)) if limits.length_class(n) == limits.length_class(fits)
    ]
    prompts = judge.prompts([fits, *(lengths or [fits])])
    nodes: dict[tuple[int, ...], int] = {}
    parents, last = [], []
    for ids in prompts.ids:
        path = tuple(ids.tolist())
        for end in range(1, len(path) + 1):
            if path[:end] not in nodes:
                nodes[path[:end]] = len(nodes)
                parents.append(nodes.get(path[: end - 1], -1))
        last.append(nodes[path])
    sees = torch.eye(len(nodes), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            sees[node] |= sees[parent]
    device = judge.weight.device
    ids = torch.tensor([[path[-1] for path in nodes]], device=device)
    positions = torch.tensor([[len(path) - 1 for path in nodes]], device=device)
    return _Tree(prompts, ids, positions, sees, torch.tensor(last, device=device))


def _chunks(judge: _Judge, tree: _Tree) -> str | None:
    """The whole tree in small chunks; then one prompt alone, from the middle block on, with the others' keys and values."""
    network, start = judge.network, judge.network.shape.n_layers // 2
    attention, entering = TreeAttention(tree.sees, chunk=2), {}
    with attention.in_use(network.hf, keep=True), _keeping_what_enters(network, [start], entering):
        found = judge.tree(tree)
    if len(attention.kept) != network.shape.n_layers:
        return (
            f"{len(attention.kept)} calls of the shared attention function in {network.shape.n_layers} blocks"
        )
    fault = difference(tree.prompts.logits, found)
    if fault:
        return fault
    nodes = tree.sees[tree.last[-1]].nonzero()[:, 0]
    part = attention.only(nodes, attention.kept[start:])
    sees, at = tree.sees[nodes][:, nodes], torch.tensor([len(nodes) - 1])
    with part.in_use(network.hf), resumed(network.parts, start, entering[start][:, nodes]):
        inputs = tree_inputs(tree.positions[:, nodes], sees, 1, judge.weight)
        found = judge.last(tree.ids[:, nodes], at, **inputs)
    return difference(tree.prompts.logits[-1:], found)


def _products(judge: _Judge, prompts: _Prompts) -> str | None:
    with fast_products(judge.network).in_use():
        return difference(prompts.logits, judge.last(torch.stack(prompts.ids)))


def _last_mlp(judge: _Judge, prompts: _Prompts) -> str | None:
    mlp, shape = judge.network.parts[-1].mlp, []
    assert mlp is not None

    def gather(x: Tensor) -> Tensor:
        shape.append(x.shape)
        return x.reshape(len(prompts.ids), -1, x.shape[-1])[:, -1:]

    def scatter(y: Tensor) -> Tensor:
        whole = y.new_zeros(len(prompts.ids), len(prompts.ids[0]), y.shape[-1])
        whole[:, -1:] = y.view(len(prompts.ids), 1, -1)
        return whole.view(*shape.pop()[:-1], -1)

    with mlp_on(mlp, gather, scatter):
        return difference(prompts.logits, judge.last(torch.stack(prompts.ids)))
