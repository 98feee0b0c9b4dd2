"""How prompts are laid out for forward passes: never padded, and shared prefixes computed once.

Two layouts hold the same tokens:

- *buckets*: prompts of one length stand below each other, one row each;
- *tree*: prompts with common prefixes are merged into a prefix tree whose nodes are one row; a node sees its ancestors
  only (a mask says so) and its position is its depth. A causal model computes the same states for a shared prefix, so the
  tree does the same exact work with less arithmetic.

Sharing is allowed only where it is exact: a prefix is common as long as the tokens agree *and* everything that an
intervention would do to them agrees. That second part is the tag of a token; see `Tagger`.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tiny_ablation.engine.edits import Edit, Intervention, PositionSpec
from tiny_ablation.engine.prompts import Prompt, Prompts, TokenSequence
from tiny_ablation.errors import ModelError
from tiny_ablation.metrics.readout import Reads, token_sets
from tiny_ablation.models.fast import TreeLimits

Tagger = Callable[[int, int], Hashable]
Path = tuple[tuple[int, Hashable], ...]
ByExample = dict[int, list[tuple[Path, TokenSequence]]]


@dataclass
class Batch:
    """One forward pass worth of prompts."""

    examples: tuple[int, ...]  # indices of the examples in it, ascending; their order here is the order of every result
    ids: Int[Tensor, "rows width"]  # token ids; a token's place in the flattened tensor is its node
    positions: Int[Tensor, "rows width"]  # position ids
    # which nodes (second axis) a node attends to (tree), or None for plain causal rows (buckets)
    sees: Bool[Tensor, "width width"] | None
    nodes: list[list[int]]  # for each sequence, the node of each of its tokens
    sequences: list[TokenSequence]  # the sequences, beside `nodes`
    read_nodes: Int[Tensor, "n_reads"]  # the node each read looks at
    reads: Reads  # what is asked there

    @property
    def n_nodes(self) -> int:
        """Tokens in one forward pass."""
        return self.ids.numel()

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(len(nodes) for nodes in self.nodes)

    def select(self, prompts: Prompts, spec: PositionSpec) -> Int[Tensor, "k"] | None:
        """The nodes at `spec`, ascending, or None for every node."""
        if spec == "all":
            return None
        chosen = {
            node
            for sequence, nodes in zip(self.sequences, self.nodes, strict=True)
            for position, node in enumerate(nodes)
            if prompts[sequence.example].covers(spec, position)
        }
        return torch.tensor(sorted(chosen), dtype=torch.long)

    def keys(self, prompts: Prompts, spec: PositionSpec) -> Bool[Tensor, "{self.n_nodes} width"]:
        """For each node which nodes of its row are tokens at `spec` of its own prompt before it."""
        width = self.ids.shape[1]
        out = torch.zeros(self.n_nodes, width, dtype=torch.bool)
        for sequence, nodes in zip(self.sequences, self.nodes, strict=True):
            prompt = prompts[sequence.example]
            chosen = [(p, n % width) for p, n in enumerate(nodes) if prompt.covers(spec, p)]
            for position, node in enumerate(nodes):
                out[node, [n for p, n in chosen if p < position]] = True
        return out

    def reached_from(self, nodes: Int[Tensor, "k"]) -> Int[Tensor, "k_reached"]:
        """Of a tree the nodes that see any of these, themselves included: all that a change there can change."""
        assert self.sees is not None
        return self.sees[:, nodes].any(1).nonzero()[:, 0]

    def only(self, nodes: Int[Tensor, "k"]) -> "Batch":
        """A tree of these nodes, ascending, as far as a forward pass needs it: ids, positions, and the reads at them."""
        assert self.sees is not None
        there = torch.isin(self.read_nodes, nodes)
        return replace(
            self,
            ids=self.ids[:, nodes],
            positions=self.positions[:, nodes],
            sees=self.sees[nodes][:, nodes],
            read_nodes=torch.searchsorted(nodes, self.read_nodes[there]),
        )

    def owners(self) -> dict[int, tuple[int, int]]:
        """For each node one (example, position) that it stands for; which one does not matter, by the tags."""
        out: dict[int, tuple[int, int]] = {}
        for sequence, nodes in zip(self.sequences, self.nodes, strict=True):
            for position, node in enumerate(nodes):
                out.setdefault(node, (sequence.example, position))
        return out


def tagger(prompts: Sequence[Prompt], plan: Iterable[Intervention]) -> Tagger:
    """What the plan makes of a token: which of its position choices cover it, and from which source tokens it is replaced."""
    edits = list(all_edits(plan))
    named = {spec for edit in edits for spec in (edit.positions, edit.keys)}
    specs = sorted((spec for spec in named if spec not in ("all", None)), key=str)
    replacements = {id(edit.replacement): edit.replacement for edit in edits}.values()
    tagged = [each for each in replacements if each.sources is not None or each.lookup is not None]
    numbers: dict[Hashable, int] = {}  # instead of tuples as long as the plan has replacements

    @cache
    def tag(example: int, position: int) -> Hashable:
        covered = tuple(prompts[example].covers(spec, position) for spec in specs)
        whole = (covered, tuple(replacement.tag(example, position) for replacement in tagged))
        return numbers.setdefault(whole, len(numbers))

    return tag if specs or tagged else lambda _example, _position: None


def all_edits(plan: Iterable[Intervention]) -> Iterator[Edit]:
    """The edits of the plan, and those that are made in the runs whose values they put in."""
    for edit in (edit for intervention in plan for edit in intervention.edits):
        yield edit
        if edit.replacement.within is not None:
            yield from all_edits([edit.replacement.within])


@dataclass
class _Node:
    token: int
    depth: int
    parent: int
    children: dict[tuple[int, Hashable], int] = field(default_factory=dict)


class _Tree:
    """A prefix tree under construction; nodes are numbered in the order they were added, parents before children."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self.roots: dict[tuple[int, Hashable], int] = {}

    def add(self, path: Path) -> list[int]:
        parent, level, out = -1, self.roots, []
        for depth, key in enumerate(path):
            node = level.get(key)
            if node is None:
                node = level[key] = len(self.nodes)
                self.nodes.append(_Node(key[0], depth, parent))
            out.append(node)
            parent, level = node, self.nodes[node].children
        return out

    def count_new(self, paths: Sequence[Path]) -> int:
        """How many nodes adding the paths would create, not counting what the paths share among themselves."""
        new = 0
        for path in paths:
            level: dict[tuple[int, Hashable], int] | None = self.roots
            for key in path:
                node = level.get(key) if level is not None else None
                new += node is None
                level = None if node is None else self.nodes[node].children
        return new


def build_batches(
    items: Sequence[TokenSequence],
    tag: Tagger,
    *,
    max_nodes: int,
    shared: bool,
    limits: Callable[[int], TreeLimits] = lambda _longest: TreeLimits(),
) -> list[Batch]:
    """Lay out all sequences; those of one example always come into the same batch.

    A batch has at most `max_nodes` tokens, unless an example is longer by itself. `shared` asks for prefix trees instead of
    buckets, if all fit into trees within the limits, which say what the model computes exactly in one tree by the number of
    tokens of the longest sequence.

    Raises:
        ModelError: an example has sequences of several lengths, which take a tree, and the model does not compute that tree.
    """
    by_example: ByExample = {}
    for item in items:
        by_example.setdefault(item.example, []).append((_path(item, tag), item))
    at = limits(max((len(item.ids) for item in items), default=1))
    if shared and at.nodes:
        trees = _trees(by_example, max_nodes, at)
        if trees is not None:
            return trees
    return _buckets(by_example, max_nodes, at)


def count_nodes(items: Sequence[TokenSequence], tag: Tagger) -> tuple[int, int]:
    """Tokens of all distinct sequences one by one, and nodes of the prefix tree that holds all of them."""
    tree, paths = _Tree(), {_path(item, tag) for item in items}
    for path in paths:
        tree.add(path)
    return sum(map(len, paths)), len(tree.nodes)


def _path(item: TokenSequence, tag: Tagger) -> Path:
    return tuple((token, tag(item.example, position)) for position, token in enumerate(item.ids))


def _trees(by_example: ByExample, max_nodes: int, limits: TreeLimits) -> list[Batch] | None:
    """As few trees of at most `max_nodes` as can be; None where an example alone exceeds the limits."""
    classes: dict[Hashable, list[int]] = {}
    for example, pairs in by_example.items():
        of_example = {limits.length_class(len(path)) for path, _ in pairs}
        if len(of_example) > 1:
            return None
        classes.setdefault(of_example.pop(), []).append(example)
    out: list[Batch] = []
    for examples in classes.values():
        # In lexicographic order neighbours share the longest prefixes. Tags are compared through repr: they only need some
        # fixed order.
        examples.sort(key=lambda e: ([(t, repr(tag)) for t, tag in by_example[e][0][0]], e))
        tree, held = _Tree(), []
        for pairs in (by_example[example] for example in examples):
            if held and len(tree.nodes) + tree.count_new([path for path, _ in pairs]) > min(max_nodes, limits.nodes):
                out.append(_tree_batch(tree, held))
                tree, held = _Tree(), []
            held += [(tree.add(path), item) for path, item in pairs]
        out.append(_tree_batch(tree, held))
    return out if all(batch.n_nodes <= limits.nodes for batch in out) else None


def _tree_batch(tree: _Tree, held: list[tuple[list[int], TokenSequence]]) -> Batch:
    sees = torch.eye(len(tree.nodes), dtype=torch.bool)
    for index, node in enumerate(tree.nodes):
        if node.parent >= 0:
            sees[index] |= sees[node.parent]
    ids, depth = [[node.token for node in tree.nodes]], [[node.depth for node in tree.nodes]]
    return _batch(torch.tensor(ids), torch.tensor(depth), sees, held)


def _buckets(by_example: ByExample, max_nodes: int, limits: TreeLimits) -> list[Batch]:
    lengths: dict[tuple[int, ...], list[int]] = {}
    for example in sorted(by_example):
        lengths.setdefault(tuple(len(path) for path, _ in by_example[example]), []).append(example)
    out = []
    for key in sorted(lengths):
        # With span=full an example has two sequences, perhaps of two lengths, which no rows of one width can hold: such
        # examples take the tree layout instead.
        if len(set(key)) > 1:
            trees = _trees({example: by_example[example] for example in lengths[key]}, max_nodes, limits)
            if trees is None:
                raise ModelError(
                    "metrics.span=full: this model computes answers of different lengths to one prompt only apart from each "
                    "other; choose targets and foils of as many tokens, or metrics.span=first"
                )
            out += trees
            continue
        width, step = key[0], max(1, max_nodes // sum(key))
        for start in range(0, len(lengths[key]), step):
            rows: dict[Path, int] = {}
            held = []
            for path, item in (pair for e in lengths[key][start : start + step] for pair in by_example[e]):
                row = rows.setdefault(path, len(rows))  # identical prompts are computed once
                held.append((list(range(row * width, (row + 1) * width)), item))
            ids = torch.tensor([[token for token, _ in path] for path in rows])
            out.append(_batch(ids, torch.arange(width).expand(len(rows), -1), None, held))
    return out


def _batch(
    ids: Int[Tensor, "rows width"],
    positions: Int[Tensor, "rows width"],
    sees: Bool[Tensor, "width width"] | None,
    held: list[tuple[list[int], TokenSequence]],
) -> Batch:
    examples = tuple(sorted({item.example for _, item in held}))
    place = {example: index for index, example in enumerate(examples)}
    held = sorted(held, key=lambda pair: pair[1].example)  # stable: target before foil
    reads = [(nodes[read.position], place[item.example], read) for nodes, item in held for read in item.reads]
    column = lambda values, dtype=torch.long: torch.tensor(list(values), dtype=dtype)  # noqa: E731
    return Batch(
        examples=examples,
        ids=ids,
        positions=positions,
        sees=sees,
        nodes=[nodes for nodes, _ in held],
        sequences=[item for _, item in held],
        read_nodes=column(node for node, _, _ in reads),
        reads=Reads(
            tokens=token_sets([read.tokens for *_, read in reads]),
            example=column(e for _, e, _ in reads),
            is_foil=column((read.is_foil for *_, read in reads), torch.bool),
            foils=token_sets([read.foils for *_, read in reads]),
            n_examples=len(examples),
        ),
    )
