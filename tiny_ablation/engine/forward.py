"""One forward pass through the plain network: resumed at a block, edited at sites, read at the answers only.

The model's own code does all the arithmetic, masks and rotary embeddings included. What is added are module hooks:

- the blocks before the first edited one hand their input through, and that block receives the cached residual stream;
- hooks at the edited sites write replacements into the rows of their interventions;
- the last block's MLP runs on the answer nodes only, and a hook before the unembedding keeps those, so that nothing is
  computed at the end that nobody reads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tiny_ablation.engine.layout import Batch
from tiny_ablation.errors import GuardError
from tiny_ablation.models.fast import mlp_on, read_at, resumed, tree_inputs
from tiny_ablation.models.hookpoints import HookPoint
from tiny_ablation.models.network import Network
from tiny_ablation.models.onednn_linear import fast_products
from tiny_ablation.models.paths import Paths
from tiny_ablation.models.placed import weight_like
from tiny_ablation.models.tree_attention import TreeAttention

MIN_ROWS = 4

Place = tuple[str, int]  # (component, layer)
Values = Float[Tensor, "runs nodes units width"]  # what stands at a place in copies of a batch
NodeValues = Float[Tensor, "nodes units width"]  # the same of one copy
Writer = Callable[[Values], None]  # writes into a view


@dataclass
class Cache:
    """What one clean pass leaves behind."""

    resid: list[Float[Tensor, "rows width d_model"]] = field(default_factory=list)  # what enters each block
    at: dict[Place, NodeValues] = field(default_factory=dict)  # of each captured place
    logits: Float[Tensor, "n_reads d_vocab"] = field(default_factory=lambda: torch.empty(0, 0))
    # how the nodes of a prefix tree attend, with the keys and values of every block; None for other layouts
    attention: TreeAttention | None = None


@dataclass
class Passes:
    """Runs a network on batches; holds no state between calls but the network and its weights in a faster order."""

    network: Network

    def __post_init__(self) -> None:
        self._products = fast_products(self.network)
        self._others: dict[int, Passes] = {}

    def of(self, network: Network | None) -> "Passes":
        """Those of another network; None is this one."""
        if network is None or network is self.network:
            return self
        if id(network) not in self._others:
            self._others[id(network)] = Passes(network)
        return self._others[id(network)]

    def clean(self, batch: Batch, capture: Sequence[Place] = (), writers: dict[Place, list[Writer]] | None = None) -> Cache:
        """Run one copy, keeping what enters each block and what stands at `capture`, after the edits of `writers` if any."""
        chunks = self.paths(batch).chunks  # proven before there are hooks
        cache = Cache(attention=TreeAttention(batch.sees) if batch.sees is not None and chunks else None)
        self._fill(cache, batch, capture, writers or {})
        missing = [place for place in capture if place not in cache.at]
        if missing or len(cache.resid) != self.network.shape.n_layers:
            raise GuardError(f"the model did not run through {missing or 'all of its blocks'}; nothing can be measured there")
        return cache

    def continued(self, batch: Batch, cache: Cache, start: int, writers: dict[Place, list[Writer]]) -> Cache:
        """What `clean` would keep of a run that differs from that of `cache` by edits, none of them below block `start`."""
        begun = Cache(cache.resid[:start])
        if cache.attention is not None:
            begun.attention = cache.attention.after(start)
        with self._resumed(batch, cache, start, 1):
            self._fill(begun, batch, (), writers)
        return begun

    def _fill(self, cache: Cache, batch: Batch, capture: Sequence[Place], writers: dict[Place, list[Writer]]) -> None:
        """Run one copy with its edits and keep what enters the blocks that are not in the cache yet, and the rest of it."""
        with ExitStack() as stack:
            self.attach(stack, writers, 1)
            for block in self.network.blocks[len(cache.resid) :]:
                entering = HookPoint("resid_pre", block, "in")
                stack.enter_context(entering.attach(cache.resid.append))
            for place in capture:
                keep = _keep(cache.at, place, batch.n_nodes)
                stack.enter_context(self.network.hook_point(*place).on_read(keep))
            trimmed = not capture and self._may_trim(writers)
            cache.logits = self._run(batch, 1, cache.attention, trimmed=trimmed, keep=True)[0]

    def edited(
        self,
        batch: Batch,
        cache: Cache,
        start: int,
        writers: dict[Place, list[Writer]],
        runs: int,
        only: Int[Tensor, "k"] | None = None,
    ) -> Float[Tensor, "{runs} n_reads d_vocab"]:
        """The logits of `runs` copies of the batch, run from block `start`, each with its edits.

        Args:
            batch: the prompts.
            cache: of a clean pass over `batch`.
            start: the first block that runs.
            writers: for each place, what writes there; each sees all copies and writes to its own.
            runs: number of copies.
            only: the nodes that are computed, ascending; the others must be as in the clean pass. None for all. Writers
                see these nodes alone. Needs `cache.attention`.

        Raises:
            GuardError: a hook did not fire exactly once.
        """
        part, attention, clean = batch, cache.attention, cache.logits.expand(runs, -1, -1)
        if only is not None:
            assert attention is not None
            part = batch.only(only)
            if not len(part.read_nodes):
                return clean
            attention = attention.only(only, attention.kept[start:])
        with ExitStack() as stack:
            stack.enter_context(self._resumed(batch, cache, start, runs, only))
            self.attach(stack, writers, runs)
            found = self._run(part, runs, attention, trimmed=self._may_trim(writers))
        if only is None or found.shape == clean.shape:
            return found
        return clean.clone().index_copy_(1, torch.isin(batch.read_nodes, only).nonzero()[:, 0], found)

    def captured(
        self, batch: Batch, cache: Cache, start: int, writers: dict[Place, list[Writer]], runs: int, capture: Sequence[Place]
    ) -> dict[Place, Float[Tensor, "{runs} nodes units width"]]:
        """As `edited`, but for what stands at `capture` in the edited runs."""
        at: dict[Place, Tensor] = {}
        with ExitStack() as stack:
            stack.enter_context(self._resumed(batch, cache, start, runs))
            self.attach(stack, writers, runs)
            for place in capture:
                keep = _keep(at, place, runs * batch.n_nodes)
                stack.enter_context(self.network.hook_point(*place).on_read(keep))
            self._run(batch, runs, cache.attention, trimmed=False)
        return {place: tensor.unflatten(0, (runs, batch.n_nodes)) for place, tensor in at.items()}

    def can_leave_out(self, batch: Batch) -> bool:
        """Whether passes over the batch may be told to compute some nodes only."""
        return batch.sees is not None and self.paths(batch).chunks

    def paths(self, batch: Batch) -> Paths:
        """The fast ways that were proven at the lengths of a batch; runs the model the first time, so not under any hooks."""
        return self.network.paths(batch.longest)

    def attach(self, stack: ExitStack, writers: dict[Place, list[Writer]], runs: int) -> None:
        """Hooks that make the edits until the stack is left, which is an error where one did not fire exactly once."""
        fired: dict[Place, int] = dict.fromkeys(writers, 0)
        stack.enter_context(_all_fired(fired))
        for place, write in writers.items():
            point = self.network.hook_point(*place)
            stack.enter_context(point.on_write(_edit(write, runs, fired, place)))

    @contextmanager
    def _resumed(
        self, batch: Batch, cache: Cache, start: int, runs: int, only: Int[Tensor, "k"] | None = None
    ) -> Iterator[None]:
        """Within: a pass begins at block `start`, which receives what enters it in the cached run, for every copy.

        Where the model cannot begin there it begins earlier, or runs as a whole.
        """
        limit = self.paths(batch).resume
        if limit is None:
            yield
            return
        start = min(start, limit)
        resid = cache.resid[start] if only is None else cache.resid[start][:, only]
        entering = resid.repeat(runs, 1, 1) if resid.shape[0] > 1 else resid.expand(runs, -1, -1)
        with resumed(self.network.parts, start, entering):
            yield

    def _may_trim(self, places: Sequence[Place] | dict[Place, list[Writer]]) -> bool:
        """Whether nothing is edited inside or behind the last MLP, where an edit would count all nodes."""
        last = self.network.shape.n_layers - 1
        return not any(layer == last and component in ("mlp_out", "neurons", "resid_post") for component, layer in places)

    def _last_mlp_on(self, nodes: Int[Tensor, "k"], batch: Batch, runs: int) -> AbstractContextManager[None]:
        """Within: the last block's MLP computes these nodes; the others, which nothing reads any more, get zeros."""
        mlp, shape = self.network.parts[-1].mlp, []
        assert mlp is not None

        def gather(x: Tensor) -> Float[Tensor, "runs k d_model"]:
            shape.append(x.shape)
            return x.reshape(runs, batch.n_nodes, -1)[:, nodes]

        def scatter(y: Tensor) -> Float[Tensor, "... d_model"]:
            whole = y.new_zeros(runs, batch.n_nodes, y.shape[-1])
            whole[:, nodes] = y.view(runs, len(nodes), -1)
            return whole.view(*shape.pop()[:-1], -1)

        return mlp_on(mlp, gather, scatter)

    def _run(
        self, batch: Batch, runs: int, attention: TreeAttention | None, *, trimmed: bool, keep: bool = False
    ) -> Float[Tensor, "{runs} n_reads d_vocab"]:
        """The model's own forward, with logits at the reads only."""
        device, paths = self.network.device, self.paths(batch)
        reads = batch.read_nodes.to(device)
        # Matrix products of fewer than four rows are summed in another order than larger ones. With four, a run alone and
        # among copies has the same logits to the last bit, and an edit that changes nothing has an effect of exactly 0.
        read = reads.repeat(-(-MIN_ROWS // len(reads)))

        def reads_only(hidden: Tensor) -> Tensor:
            # (runs * rows, width, d_model) -> (runs * n_reads, d_model)
            return hidden.reshape(runs, batch.n_nodes, -1)[:, read].flatten(0, 1)

        inputs = {}
        if batch.sees is not None:
            weight = weight_like(self.network.hf)
            inputs = tree_inputs(batch.positions, batch.sees, runs, weight)
        with ExitStack() as stack:
            if paths.products:
                stack.enter_context(self._products.in_use())
            if attention is not None and not torch.is_grad_enabled():
                stack.enter_context(attention.in_use(self.network.hf, keep=keep))
            if trimmed and paths.last_mlp:
                stack.enter_context(self._last_mlp_on(read.unique(), batch, runs))
            stack.enter_context(read_at(self.network.unembed, reads_only))
            out: Any = self.network.forward(batch.ids.repeat(runs, 1).to(device), **inputs)
        return out.logits.view(runs, len(read), -1)[:, : len(reads)]


@contextmanager
def _all_fired(fired: dict[Place, int]) -> Iterator[None]:
    """A forward pass in which each place is to be reached exactly once."""
    yield
    silent = [f"blocks.{layer}.{component}" for (component, layer), count in fired.items() if count != 1]
    if silent:
        raise GuardError(
            f"the hook at {', '.join(silent)} did not fire exactly once in a forward pass, so its effect was not measured"
        )


def _keep(into: dict[Place, Tensor], place: Place, nodes: int) -> Callable[[Tensor], None]:
    def hook(values: Float[Tensor, "... units width"]) -> None:
        # a copy, so that no later edit can reach into the cache
        into[place] = values.clone().reshape(nodes, *values.shape[-2:])

    return hook


def _edit(write: list[Writer], runs: int, fired: dict[Place, int], place: Place) -> Callable[[Tensor], None]:
    def hook(values: Float[Tensor, "... units width"]) -> None:
        fired[place] += 1
        # (runs * rows, tokens, units, width) -> (runs, rows * tokens, units, width), still a view
        split = values.view(runs, -1, *values.shape[-2:])
        for writer in write:
            writer(split)

    return hook
