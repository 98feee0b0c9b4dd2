"""One forward pass through the plain network: resumed at a block, edited at sites, read at the answers only.

The model's own code does all the arithmetic, masks and rotary embeddings included. What is added are module hooks:

- the blocks before the first edited one hand their input through, and that block receives the cached residual stream;
- hooks at the edited sites write replacements into the rows of their interventions;
- the last block's MLP runs on the answer nodes only, and a hook before the unembedding keeps those, so that nothing is
  computed at the end that nobody reads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tiny_ablation.engine.layout import Batch
from tiny_ablation.errors import GuardError
from tiny_ablation.models.hookpoints import HookPoint
from tiny_ablation.models.network import Network
from tiny_ablation.models.onednn_linear import fast_products
from tiny_ablation.models.tree_attention import TreeAttention

MIN_ROWS = 4

Place = tuple[str, int]  # (component, layer)
Writer = Callable[[Tensor], None]  # writes into a view (runs, nodes, units, width)


@dataclass
class Cache:
    """What one clean pass leaves behind.

    Attributes:
        resid: for each block, (rows, width, d_model): the residual stream that enters it.
        at: for each captured place, (nodes, units, width).
        logits: (n_reads, d_vocab).
        attention: how the nodes of a prefix tree attend, with the keys and values of every block; None for other layouts.
    """

    resid: list[Tensor] = field(default_factory=list)
    at: dict[Place, Tensor] = field(default_factory=dict)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    attention: TreeAttention | None = None


@dataclass
class Passes:
    """Runs a network on batches; holds no state between calls but the network and its weights in a faster order."""

    network: Network

    def __post_init__(self) -> None:
        self._products = fast_products(self.network)
        self._tree_in_chunks = self.network.tree_attention_is_exact  # runs the model, so not under any hooks

    def clean(
        self, batch: Batch, capture: Sequence[Place] = (), writers: dict[Place, list[Writer]] | None = None
    ) -> Cache:
        """Run one copy, keeping what enters each block and what stands at `capture`, after the edits of `writers` if any."""
        cache = Cache(attention=self._attention(batch))
        self._fill(cache, batch, capture, writers or {})
        missing = [place for place in capture if place not in cache.at]
        if missing or len(cache.resid) != self.network.shape.n_layers:
            raise GuardError(
                f"the model did not run through {missing or 'all of its blocks'}; nothing can be measured there"
            )
        return cache

    def continued(self, batch: Batch, cache: Cache, start: int, writers: dict[Place, list[Writer]]) -> Cache:
        """What `clean` would keep of a run that differs from that of `cache` by edits in blocks from `start` on.

        Args:
            batch: the prompts.
            cache: of a pass over `batch`.
            start: the first block that runs.
            writers: for each place, what writes there; no block below `start` has one.
        """
        begun = Cache(cache.resid[:start])
        if cache.attention is not None:
            begun.attention = cache.attention.after(start)
        with self._resumed(start, cache.resid[start], 1):
            self._fill(begun, batch, (), writers)
        return begun

    def _fill(
        self, cache: Cache, batch: Batch, capture: Sequence[Place], writers: dict[Place, list[Writer]]
    ) -> None:
        """Run one copy with its edits and keep what enters the blocks that are not in the cache yet, and the rest of it."""
        with ExitStack() as stack:
            self._attach(stack, writers, 1)
            for layer in range(len(cache.resid), self.network.shape.n_layers):
                point = self.network.hook_point("resid_pre", layer)
                stack.enter_context(removed(point.attach(_append(cache.resid))))
            for place in capture:
                point = self.network.hook_point(*place)
                keep = _keep(cache.at, place, point.view, batch.n_nodes)
                stack.enter_context(removed(point.attach(keep)))
            trimmed = not capture and self._may_trim(writers)
            cache.logits = self._run(batch, 1, cache.attention, trimmed=trimmed, keep=True)[0]

    def edited(
        self, batch: Batch, cache: Cache, start: int, writers: dict[Place, list[Writer]], runs: int,
        only: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Run `runs` copies of the batch from block `start`, each with its edits.

        Args:
            batch: the prompts.
            cache: of a clean pass over `batch`.
            start: the first block that runs.
            writers: for each place, what writes there; each sees all copies and writes to its own.
            runs: number of copies.
            only: (k,) the nodes that are computed, ascending; the others must be as in the clean pass. None for all. Writers
                see these nodes alone. Needs `cache.attention`.

        Returns:
            (runs, n_reads, d_vocab) logits.

        Raises:
            GuardError: a hook did not fire exactly once.
        """
        if only is not None:
            return self._edited_only(batch, cache, start, writers, runs, only)
        with ExitStack() as stack:
            stack.enter_context(self._resumed(start, cache.resid[start], runs))
            self._attach(stack, writers, runs)
            return self._run(batch, runs, cache.attention, trimmed=self._may_trim(writers))

    def _edited_only(
        self, batch: Batch, cache: Cache, start: int, writers: dict[Place, list[Writer]], runs: int, only: Tensor
    ) -> Tensor:  # fmt: skip
        assert cache.attention is not None
        part, logits = batch.only(only), cache.logits.expand(runs, -1, -1)
        if not len(part.read_nodes):
            return logits
        attention = cache.attention.only(only, cache.attention.kept[start:])
        with ExitStack() as stack:
            stack.enter_context(self._resumed(start, cache.resid[start][:, only], runs))
            self._attach(stack, writers, runs)
            found = self._run(part, runs, attention, trimmed=self._may_trim(writers))
        if found.shape == logits.shape:
            return found
        return logits.clone().index_copy_(1, torch.isin(batch.read_nodes, only).nonzero()[:, 0], found)

    def captured(
        self,
        batch: Batch,
        cache: Cache,
        start: int,
        writers: dict[Place, list[Writer]],
        runs: int,
        capture: Sequence[Place],
    ) -> dict[Place, Tensor]:
        """As `edited`, but for what stands at `capture` in the edited runs: for each place (runs, nodes, units, width)."""
        at: dict[Place, Tensor] = {}
        with ExitStack() as stack:
            stack.enter_context(self._resumed(start, cache.resid[start], runs))
            self._attach(stack, writers, runs)
            for place in capture:
                point = self.network.hook_point(*place)
                stack.enter_context(removed(point.attach(_keep(at, place, point.view, runs * batch.n_nodes))))
            self._run(batch, runs, cache.attention, trimmed=False)
        return {place: tensor.unflatten(0, (runs, batch.n_nodes)) for place, tensor in at.items()}

    def can_leave_out(self, batch: Batch) -> bool:
        """Whether passes over the batch may be told to compute some nodes only."""
        return batch.sees is not None and self._tree_in_chunks

    def _attention(self, batch: Batch) -> TreeAttention | None:
        return TreeAttention(batch.sees) if batch.sees is not None and self.can_leave_out(batch) else None

    def _attach(self, stack: ExitStack, writers: dict[Place, list[Writer]], runs: int) -> None:
        """Hooks that make the edits until the stack is left, which is an error where one did not fire exactly once."""
        fired: dict[Place, int] = dict.fromkeys(writers, 0)
        stack.enter_context(_all_fired(fired))
        for place, write in writers.items():
            point = self.network.hook_point(*place)
            stack.enter_context(removed(point.attach(_edit(point.view, write, runs, fired, place))))

    @contextmanager
    def _resumed(self, start: int, resid: Tensor, runs: int) -> Iterator[None]:
        """Within: blocks before `start` hand their input through, and `start` receives `resid` for every copy."""
        blocks = self.network.blocks
        entering = resid.repeat(runs, 1, 1) if resid.shape[0] > 1 else resid.expand(runs, -1, -1)
        handle = self.network.hook_point("resid_pre", start).attach(lambda _: entering)
        try:
            for block in blocks[:start]:
                block.forward = _hand_through(self.network)
            yield
        finally:
            handle.remove()
            for block in blocks[:start]:
                del block.forward

    def _may_trim(self, places: Sequence[Place] | dict[Place, list[Writer]]) -> bool:
        """Whether nothing is edited inside or behind the last MLP, where an edit would count all nodes."""
        last = self.network.shape.n_layers - 1
        return not any(
            layer == last and component in ("mlp_out", "neurons", "resid_post") for component, layer in places
        )

    @contextmanager
    def _last_mlp_on(self, nodes: Tensor, batch: Batch, runs: int) -> Iterator[None]:
        """Within: the last block's MLP computes these nodes; the others, which nothing reads any more, get zeros."""
        point = self.network.hook_point("mlp_out", self.network.shape.n_layers - 1)
        shape: list[torch.Size] = []

        def gather(x: Tensor) -> Tensor:
            shape.append(x.shape)
            return x.reshape(runs, batch.n_nodes, -1)[:, nodes]

        def scatter(y: Tensor) -> Tensor:
            whole = y.new_zeros(runs, batch.n_nodes, y.shape[-1])
            whole[:, nodes] = y
            return whole.view(*shape.pop()[:-1], -1)

        before = HookPoint(point.label, point.module, "in", point.view)
        with removed(before.attach(gather)), removed(point.attach(scatter)):
            yield

    def _run(
        self, batch: Batch, runs: int, attention: TreeAttention | None, *, trimmed: bool, keep: bool = False
    ) -> Tensor:  # fmt: skip
        """(runs, n_reads, d_vocab): the model's own forward, with logits at the reads only."""
        device, dtype = self.network.device, next(self.network.hf.parameters()).dtype
        reads = batch.read_nodes.to(device)
        # Matrix products of fewer than four rows are summed in another order than larger ones. With four, a run alone and
        # among copies has the same logits to the last bit, and an edit that changes nothing has an effect of exactly 0.
        read = reads.repeat(-(-MIN_ROWS // len(reads)))

        def reads_only(hidden: Tensor) -> Tensor:
            # (runs * rows, width, d_model) -> (runs * n_reads, d_model)
            return hidden.reshape(runs, batch.n_nodes, -1)[:, read].flatten(0, 1)

        mask = None
        if batch.sees is not None:
            mask = torch.zeros(batch.sees.shape, dtype=dtype).masked_fill_(
                ~batch.sees, torch.finfo(dtype).min
            )
            mask = mask.to(device)[None, None].expand(runs, 1, -1, -1)
        with ExitStack() as stack:
            stack.enter_context(self._products.in_use())
            if attention is not None and not torch.is_grad_enabled():
                stack.enter_context(attention.in_use(self.network.hf, keep=keep))
            if trimmed and self.network.names.mlp:
                stack.enter_context(self._last_mlp_on(read.unique(), batch, runs))
            unembed = HookPoint("unembed", self.network.unembed, "in", lambda x: x)
            stack.enter_context(removed(unembed.attach(reads_only)))
            out: Any = self.network.forward(
                input_ids=batch.ids.repeat(runs, 1).to(device),
                position_ids=batch.positions.repeat(runs, 1).to(device),
                attention_mask=mask,
                use_cache=False,
            )
        return out.logits.view(runs, len(read), -1)[:, : len(reads)]


@contextmanager
def removed(handle: Any) -> Iterator[None]:
    """A hook that is gone afterwards, whatever happens."""
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _all_fired(fired: dict[Place, int]) -> Iterator[None]:
    """A forward pass in which each place is to be reached exactly once."""
    yield
    silent = [f"blocks.{layer}.{component}" for (component, layer), count in fired.items() if count != 1]
    if silent:
        raise GuardError(
            f"the hook at {', '.join(silent)} did not fire exactly once in a forward pass, so its effect was not measured"
        )


def _hand_through(network: Network) -> Callable[..., Any]:
    """A block's forward that returns its input, in the form (tensor or tuple) that this model's blocks return."""
    if network.blocks_return_tuple:
        return lambda hidden_states, *_args, **_kwargs: (hidden_states,)
    return lambda hidden_states, *_args, **_kwargs: hidden_states


def _append(into: list[Tensor]) -> Callable[[Tensor], None]:
    def hook(x: Tensor) -> None:
        into.append(x)

    return hook


def _keep(
    into: dict[Place, Tensor], place: Place, view: Callable[[Tensor], Tensor], nodes: int
) -> Callable[[Tensor], None]:
    def hook(x: Tensor) -> None:
        # (rows, width, units, d) -> (nodes, units, d); a copy, so that no later edit can reach into the cache
        into[place] = view(x.clone()).reshape(nodes, *view(x).shape[-2:])

    return hook


def _edit(
    view: Callable[[Tensor], Tensor], write: list[Writer], runs: int, fired: dict[Place, int], place: Place
) -> Callable[[Tensor], Tensor]:
    def hook(x: Tensor) -> Tensor:
        fired[place] += 1
        new = x.clone(memory_format=torch.contiguous_format)
        # (runs * rows, width, units, d) -> (runs, rows * width, units, d), still a view of `new`
        whole = view(new)
        split = whole.view(runs, -1, *whole.shape[-2:])
        for writer in write:
            writer(split)
        return new

    return hook
