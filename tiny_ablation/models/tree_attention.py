"""Attention in a prefix tree, where a node sees its ancestors and no other branch.

Under a dense mask every node meets every other, so that the cost grows with the square of their number. In the order of the
tree, in which branches stand one after the other, neighbours together see little more than themselves and the stem that
they share. So queries are taken in chunks of neighbours, each with the keys that any of them sees, and the query heads of a
group as rows of one product. Measured on the default model (CPU, 100 nodes): 1.5 ms where the dense mask takes 4.7.

Where only some nodes can differ from a run that was made before, only those are queries (`only`); keys and values of the others
are those of that run. A chunk keeps its shape, so that the sums of a query are made in the same order as before.

Works for every architecture that takes its attention from transformers' `AttentionInterface`; whether it does is seen by a
probe (`paths`). On other devices than a CPU one dense product is faster than many small ones.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiny_ablation.models.scores import IN_CHUNKS, added_scores
from tiny_ablation.models.watch import attention_by

# Measured with 8 to 48: smaller chunks see fewer keys in vain, larger ones make larger products.
CHUNK = 16
# What some models ask of the attention function: a cap on scores, sinks beside the keys, a bias of each head.
_CHANGE_SCORES = ("softcap", "s_aux", "sinks", "position_bias", "alibi", "head_mask", "indices", "block_indices")


class _Chunk(NamedTuple):
    """Neighbouring queries and all that they see."""

    nodes: slice  # which nodes they are
    keys: Tensor  # (n_keys,) the nodes that any of them sees
    mask: Tensor  # (n_nodes, n_keys) 0 where a query sees a key, else minus infinity
    masks: dict[int, Tensor]  # by the number n of query heads in a group, n copies of the mask, one below the other
    asked: Tensor | None  # those of the nodes that are queries, counted from the first; None for all
    queries: slice  # where these stand among all queries

    def of(self, query: Tensor) -> Tensor:
        """(runs, heads, nodes, width): the queries at their nodes, and zeros elsewhere."""
        if self.asked is None:
            return query[:, :, self.queries]
        whole = query.new_zeros(*query.shape[:2], len(self.mask), query.shape[-1])
        return whole.index_copy_(2, self.asked, query[:, :, self.queries])

    def mask_of(self, group: int, like: Tensor) -> Tensor:
        """(1, group * n_nodes, n_keys); made once, since every block of every run takes it."""
        if group not in self.masks:
            self.masks[group] = self.mask.repeat(group, 1).to(like)[None]
        return self.masks[group]

    def mask_with(self, added: Tensor, group: int, kv_heads: int) -> Tensor:
        """(runs * kv heads, group * n_nodes, n_keys): the mask and what is added to all scores, (runs, queries, nodes)."""
        runs, mine = len(added), added[:, self.queries].index_select(2, self.keys)
        if self.asked is not None:
            whole = mine.new_zeros(runs, len(self.mask), len(self.keys))
            mine = whole.index_copy_(1, self.asked, mine)
        mask = (self.mask.to(mine) + mine)[:, None, None].expand(-1, kv_heads, group, -1, -1)
        return mask.reshape(runs * kv_heads, -1, len(self.keys))


KeysValues = tuple[Tensor, Tensor]  # each (1, kv heads, nodes, width), of one block


class TreeAttention:
    """Attention among the nodes of one tree, in the form that transformers' models call it.

    `sees`, (nodes, nodes) bool, is which nodes a node attends to, at least itself; queries are taken `chunk` at a time.
    """

    def __init__(self, sees: Tensor, chunk: int = CHUNK) -> None:
        self._chunks: list[_Chunk] = []
        for start in range(0, len(sees), chunk):
            nodes = slice(start, min(start + chunk, len(sees)))
            rows = sees[nodes]
            keys = rows.any(0).nonzero()[:, 0]
            mask = torch.zeros(len(rows), len(keys)).masked_fill_(~rows[:, keys], -torch.inf)
            self._chunks.append(_Chunk(nodes, keys, mask, {}, None, nodes))
        self._keys = torch.cat([chunk.keys for chunk in self._chunks])
        self._others: tuple[Tensor, Iterator[KeysValues]] | None = None
        self.kept: list[KeysValues] = []

    def only(self, nodes: Tensor, others: Sequence[KeysValues]) -> "TreeAttention":
        """Attention whose queries are some of the nodes, (k,) ascending.

        `others` are the keys and values of every node, block by block, in the run from which those of the rest are taken.
        """
        part = copy.copy(self)
        part._others = (nodes, iter(others))
        at, part._chunks = 0, []
        for chunk in self._chunks:
            asked = nodes[(nodes >= chunk.nodes.start) & (nodes < chunk.nodes.stop)] - chunk.nodes.start
            if len(asked):
                part._chunks.append(chunk._replace(asked=asked, queries=slice(at, at + len(asked))))
                at += len(asked)
        part._keys = torch.cat([chunk.keys for chunk in part._chunks])
        return part

    def after(self, blocks: int) -> "TreeAttention":
        """The same attention, for a run that has the keys and values of the first blocks in common with this one."""
        other = copy.copy(self)
        other.kept = self.kept[:blocks]
        return other

    def __call__(self, module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **options: Any) -> tuple[Tensor, None]:
        """(runs, queries, heads, width), and no attention weights.

        Args:
            module: the attention module; it may have a function that changes scores (`scores`).
            query: (runs, heads, queries, width).
            key: (runs, kv heads, nodes, width).
            value: (runs, kv heads, nodes, width).
            options: `scaling` of the scores; by default `width ** -0.5`. The rest is for other kinds of attention.

        Raises:
            ValueError: something is asked for that changes the scores and that is not made here.
        """
        if unknown := [name for name in _CHANGE_SCORES if options.get(name) is not None]:
            raise ValueError(f"attention in chunks has no {unknown[0]}")
        key, value = self._whole(key, value)
        runs, heads, nodes = query.shape[:3]
        added = added_scores(module, (runs, nodes, key.shape[2]), query)
        # All that the chunks see, chunk after chunk, is gathered at once.
        key, value = (x.index_select(2, self._keys) for x in (key, value))
        group, seen = heads // key.shape[1], 0
        scale = query.shape[-1] ** -0.5 if options.get("scaling") is None else options["scaling"]
        out = query.new_empty(runs, nodes, heads, value.shape[-1])
        for chunk in self._chunks:
            at = slice(seen, seen := seen + len(chunk.keys))
            mask = chunk.mask_of(group, query) if added is None else chunk.mask_with(added, group, key.shape[1])
            part = _attend(chunk.of(query), key[:, :, at], value[:, :, at], mask, scale)
            part = part if chunk.asked is None else part[:, :, chunk.asked]
            out[:, chunk.queries] = part.transpose(1, 2)
        return out, None

    def _whole(self, key: Tensor, value: Tensor) -> KeysValues:
        """Keys and values of all nodes."""
        if self._others is None:
            return key, value
        nodes, others = self._others
        return tuple(  # type: ignore[return-value]
            other.repeat(len(new), 1, 1, 1).index_copy_(2, nodes, new)
            for other, new in zip(next(others), (key, value), strict=True)
        )

    @contextmanager
    def in_use(self, hf: Any, *, keep: bool = False) -> Iterator[None]:
        """Within: the model attends in this way, and with `keep`, the keys and values of every block come into `kept`."""
        with attention_by(hf, IN_CHUNKS, self._keeping if keep else self):
            yield

    def _keeping(self, module: Any, query: Tensor, key: Tensor, value: Tensor, *more: Any, **options: Any) -> Any:
        self.kept.append((key, value))
        return self(module, query, key, value, *more, **options)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """(runs, heads, queries, width) of plain attention.

    The query heads of a group are rows of one product and of `mask`, which is one for all or one for each product.
    """
    runs, heads = query.shape[:2]
    # (runs, heads, queries, width) -> (runs * kv heads, group * queries, width)
    rows = query.reshape(runs * key.shape[1], -1, query.shape[-1])
    scores = torch.baddbmm(mask, rows, key.flatten(0, 1).mT, alpha=scale)
    return torch.bmm(scores.softmax(-1), value.flatten(0, 1)).view(runs, heads, -1, value.shape[-1])
