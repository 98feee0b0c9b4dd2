"""The judge of fast ways: the model as transformers runs it, on prompts made here, and how far other ways are from it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tiny_ablation.errors import ModelError
from tiny_ablation.models.discovery import probe_ids
from tiny_ablation.models.fast import TreeLimits, read_at, tree_inputs
from tiny_ablation.models.placed import weight_like

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network

SHORTEST = 16  # tokens; shorter prompts are proven at this length
# Of the largest logit: what two right ways of summing differ by at most, several times over.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.1}


class Prompt(NamedTuple):
    """A prompt, what the bare model makes of its last token, and what entered some blocks meanwhile."""

    ids: Tensor  # (n,)
    logits: Tensor  # (1, d_vocab)
    entering: dict[int, Tensor]  # (1, n, d_model) each


class Tree(NamedTuple):
    """Prompts in a prefix tree: a row of nodes, their positions, which see which, and the last node of each prompt."""

    prompts: Sequence[Prompt]
    ids: Tensor  # (1, nodes)
    positions: Tensor  # (1, nodes)
    sees: Tensor  # (nodes, nodes) bool
    last: Tensor  # (prompts,)


Way = Callable[[], AbstractContextManager[None]]


class Judge:
    """Runs the model in the ways that are compared."""

    def __init__(self, network: "Network") -> None:
        self.network = network
        self.weight = weight_like(network.hf)

    def prompts(self, lengths: list[int], starts: Sequence[int] = ()) -> list[Prompt]:
        """Prompts of these lengths that share half of their beginning, each run by itself; what enters `starts` is kept."""
        found = []
        for i, n in enumerate(lengths):
            ids = probe_ids(self.network.hf, n)[0].clone()
            ids[n // 2 :] = probe_ids(self.network.hf, n, first=(i + 1) * max(lengths))[0, n // 2 :]
            entering: dict[int, Tensor] = {}
            with keeping_what_enters(self.network, starts, entering):
                # Logits of all tokens, to hold `last` against, where they are few.
                few = n <= SHORTEST
                logits = self.network.forward(ids[None]).logits[:, -1] if few else self.last(ids[None])
            found.append(Prompt(ids, logits, entering))
        return found

    def last(self, ids: Tensor, at: Tensor | None = None, **inputs: Any) -> Tensor:
        """(rows or reads, d_vocab): logits at the last token of each row, or at some nodes of the only one."""

        def select(x: Tensor) -> Tensor:
            return x[:, -1:] if at is None else x[:, at]

        with read_at(self.network.unembed, select):
            return self.network.forward(ids, **inputs).logits.flatten(0, 1)

    def tree(self, tree: Tree) -> Tensor:
        """(prompts, d_vocab) by one pass over a tree."""
        return self.last(tree.ids, tree.last, **tree_inputs(tree.positions, tree.sees, 1, self.weight))

    def fault_of_rows(self, prompts: Sequence[Prompt], ways: Iterable[Way] = ()) -> str | None:
        """What is wrong with prompts in one batch, computed in all of some ways at once."""
        with ExitStack() as stack:
            for way in ways:
                stack.enter_context(way())
            return difference(logits_of(prompts), self.last(torch.stack([prompt.ids for prompt in prompts])))

    def check_rows(self, prompts: Sequence[Prompt]) -> None:
        """Refuse a model whose prompts change each other in a batch, or whose logits cannot be read at some tokens only."""
        name = self.network.model.name
        if fault := self.fault_of_rows(prompts[:1]):
            raise ModelError(f"model {name}: its unembedding cannot be run on a few tokens: {fault}")
        if fault := self.fault_of_rows(prompts):
            raise ModelError(f"model {name}: prompts that stand in one batch change each other: {fault}")


def logits_of(prompts: Sequence[Prompt]) -> Tensor:
    """(prompts, d_vocab) of the bare model."""
    return torch.cat([prompt.logits for prompt in prompts])


def difference(logits: Tensor, found: Tensor) -> str | None:
    """None where two ways of computing logits agree but for rounding, else by how much they differ, in words."""
    error = ((found - logits).abs().max() / logits.abs().max().clamp_min(1e-6)).item()
    if error <= _TOLERANCE[logits.dtype]:
        return None
    return f"logits differ from the bare model's by {error:.1e} of their size"


@contextmanager
def keeping_what_enters(network: "Network", layers: Sequence[int], into: dict[int, Tensor]) -> Iterator[None]:
    """Within: what enters these blocks is put into a dict, by block."""
    handles = [
        network.hook_point("resid_pre", layer).attach(lambda x, layer=layer: into.update({layer: x.clone()}))
        for layer in set(layers)
        if "resid_pre" in network.parts[layer].points
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def tree_of(judge: Judge, prompts: list[Prompt], limits: TreeLimits) -> Tree:
    """A tree of these prompts, or, where they may not share one, of others that are as long as may be."""
    lengths = [len(prompt.ids) for prompt in prompts]
    nodes_of = lengths[0] + sum(n - n // 2 for n in lengths[1:])
    if nodes_of > limits.nodes or len({*map(limits.length_class, lengths)}) > 1:
        fits = lengths[0] if 2 * lengths[0] <= limits.nodes else max(2, int(limits.nodes) // 3)
        near = [n for n in (fits - fits // 4, min(3, fits)) if limits.length_class(n) == limits.length_class(fits)]
        prompts = judge.prompts([fits, *(near or [fits])])
    nodes: dict[tuple[int, ...], int] = {}
    parents, last = [], []
    for prompt in prompts:
        path = tuple(prompt.ids.tolist())
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
    return Tree(prompts, ids, positions, sees, torch.tensor(last, device=device))
