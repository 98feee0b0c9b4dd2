"""The fast exact executor: works a plan of interventions through, batch by batch.

For each batch of prompts: one clean pass caches the residual stream at every block; the interventions are grouped by the
first block they change, and each group runs as copies of the batch that start at that block; logits are computed at the
answers and turned into metrics at once. So memory does not grow with the number of examples or interventions.

What it costs: for an intervention at block l of n, the blocks from l on, and of these the tokens that the edited ones can reach
(answer-only edits need the answers only; see `tiny_ablation.engine.scheduling`). What it does not do: gradients (see
`tiny_ablation.engine.gradients`).
"""

import ctypes
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from tiny_ablation.engine.attention import require_exact_edges
from tiny_ablation.engine.edits import Intervention
from tiny_ablation.engine.forward import Cache, Passes, Values
from tiny_ablation.engine.layout import Batch, Tagger, all_edits, build_batches, count_nodes, tagger
from tiny_ablation.engine.parts import in_parts
from tiny_ablation.engine.prompts import Prompt, TokenSequence, sequences
from tiny_ablation.engine.results import BatchResult, check_finite
from tiny_ablation.engine.scheduling import Edited, Share, runs_per_pass, shares
from tiny_ablation.engine.source_runs import Sources
from tiny_ablation.errors import GuardError, ModelError, is_out_of_memory
from tiny_ablation.metrics.readout import Metric, Readout
from tiny_ablation.models.network import Network
from tiny_ablation.models.placed import is_placed, weight_like
from tiny_ablation.store.runlog import log

# A prefix tree in one row attends to more than it needs (the mask is dense), so it must save a little to be worth it.
MIN_SHARING = 1.08
# Nodes of one tree. Every pass reads the weights of its blocks from memory, which larger trees share among more rows; beyond
# this, caches run over (default model, 64 facts, one thread: 4.9 s with 80, 4.7 s with 160, 4.4 s with 256).
TREE_NODES = 256
# Where few interventions share a pass, batches are larger: matrix products of a thousand rows are a fifth faster than of 256.
PASS_ROWS = 1024
# A finished batch is kept when a run is stopped, so a short run is cut into a few batches, as far as they stay large enough
# for the matrix products to be efficient.
FEW_BATCHES, MIN_NODES = 3, 96
# Logits that one pass gives: 256 MB in float32.
LOGITS_HELD = 2**26
LOGITS_HELD_OF_PLACED = 2**22  # where the model is larger than the memory


@dataclass
class Executor:
    """Works one plan through on one set of prompts."""

    network: Network
    prompts: Sequence[Prompt]  # what is run; results are in this order
    plan: Sequence[Intervention]  # the interventions
    metrics: Sequence[Metric]  # what is measured
    full: bool = False  # score whole answers, teacher-forced, instead of their first token
    batch_tokens: int = 4096  # tokens in one forward pass; halved when memory runs out
    shared: bool | None = None  # prefix trees; None chooses what is less work
    # made in every run, the baseline included, where the prompt enters the first block (noise on embeddings)
    base_intervention: Intervention | None = None
    only: Collection[int] | None = None  # the examples that are run, by index; None for all
    least_batches: int = 1  # how many batches there should be at least, as far as there are prompts; see `run.shards`
    # interventions x tokens of the prompts, of the batches that were run so far: what a loop without caches and shared prefixes
    # pushes through the model
    prompt_tokens: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._passes = Passes(self.network)
        self._capacity = self.batch_tokens
        edits = list(all_edits(self.plan))
        networks = {id(each): each for each in (self.network, *(edit.replacement.network for edit in edits)) if each}
        for component, layer in {(edit.component, edit.layer) for edit in edits}:
            for network in networks.values():  # some are proven when they are first asked for: not under hooks
                network.hook_point(component, layer)
        if any(edit.keys is not None for edit in edits):
            require_exact_edges(self.network)
        always = self.base_intervention.edits if self.base_intervention else ()
        if any((edit.component, edit.layer) != ("resid_pre", 0) for edit in always):
            raise GuardError("what is made in every run must stand where the prompt enters the first block")

    @cached_property
    def batches(self) -> list[Batch]:
        """The layout of all prompts, the same on every machine."""
        return build_batches(
            self._items, self._tag, max_nodes=self._max_nodes, shared=self.uses_prefix_tree, limits=self.network.trees
        )

    @cached_property
    def _items(self) -> list[TokenSequence]:
        """What is run."""
        items = sequences(self.prompts, full=self.full)
        return [item for item in items if self.only is None or item.example in self.only]

    @property
    def _max_nodes(self) -> int:
        """Nodes of one batch: even shares, and room for a prompt more, so that no small batch is left at the end."""
        nodes, runs = self._work[1], runs_per_pass(self.plan, self.network.shape.n_layers)
        most = max(TREE_NODES, int(PASS_ROWS / runs)) if runs else TREE_NODES
        parts = max(1, -(-nodes // most), min(FEW_BATCHES, nodes // (MIN_NODES * most // TREE_NODES)))
        parts = max(parts, min(self.least_batches, len(self.prompts)))
        even = -(-nodes // parts) + max((len(prompt.ids) for prompt in self.prompts), default=1)
        return min(even, self.batch_tokens)

    @cached_property
    def uses_prefix_tree(self) -> bool:
        """Whether shared prefixes are computed once; only where the network was seen to compute a tree exactly."""
        longest = max((len(prompt.ids) for prompt in self.prompts), default=1)
        if self.network.trees(longest).nodes < longest:
            return False
        if self.shared is not None:
            return self.shared
        tokens, nodes = self._work
        # Prompts of many lengths make many small buckets, whose small matrices cost more than a tree that shares nothing.
        small_buckets = tokens < TREE_NODES * len({len(prompt.ids) for prompt in self.prompts})
        return tokens >= MIN_SHARING * nodes or small_buckets

    @cached_property
    def _work(self) -> tuple[int, int]:
        """Tokens of all prompts one by one, and nodes of their prefix tree."""
        return count_nodes(self._items, self._tag)

    @cached_property
    def _tag(self) -> Tagger:
        return tagger(self.prompts, [*self.plan, *([self.base_intervention] if self.base_intervention else [])])

    def __iter__(self) -> Iterator[BatchResult]:
        """Results batch by batch."""
        return (self.run(index) for index in range(len(self.batches)))

    @torch.inference_mode()
    def run(self, index: int, tick: Callable[[int], object] = lambda _: None) -> BatchResult:
        """All interventions on the batch of that index.

        `tick` is called with the number of interventions x examples that were finished, as they are.

        Raises:
            GuardError: a hook did not fire, or the clean baseline changed in between.
            ModelError: the model cannot be run under a base intervention.
            NumericsError: logits are NaN or infinite; the message names the site.
        """
        batch = self.batches[index]
        always = [self.base_intervention] if self.base_intervention else []
        if always and self._passes.paths(batch).resume is None:
            raise ModelError(
                "a pass through this model cannot begin at a later block, so what is done to every run (noise on the "
                "embeddings) would be missing from the intervened ones; ablations that do so cannot be used with it"
            )
        under = self._sources(batch, always).writers(always)
        cache = self._passes.clean(batch, writers=under)
        base = Readout(cache.logits[None], batch.reads.to(self.network.device))
        check_finite(base, ["the un-intervened model"])
        if index == 0 and self.plan:
            self._check_self_patch(batch, cache)
        out = self._results(batch, cache, base, tick)
        if self.plan and not torch.equal(self._passes.clean(batch, writers=under).logits, cache.logits):
            raise GuardError("the clean baseline is not what it was before the interventions: a hook or an edit leaked")
        give_back()
        self.prompt_tokens += len(self.plan) * sum(len(self.prompts[i].ids) for i in batch.examples)
        return out

    def _results(self, batch: Batch, cache: Cache, base: Readout, tick: Callable[[int], object]) -> BatchResult:
        """What the interventions of the plan do to a batch whose un-intervened run is in `cache` and `base`."""
        out = BatchResult.empty(batch.examples, self.metrics, len(self.plan), base)
        number = weight_like(self.network.hf).element_size()
        for part in in_parts(self.plan, batch, self.network.shape, number):
            self._run_part(batch, part, cache, base, out, tick)
        return out

    def _run_part(
        self,
        batch: Batch,
        part: Mapping[int, Intervention],
        cache: Cache,
        base: Readout,
        out: BatchResult,
        tick: Callable[[int], object],
    ) -> None:
        """The interventions of a part; a function of its own, which lets go of the values from other runs at its end."""
        sources, made, begun = self._sources(batch, part.values()), (), cache
        for share in self.shares(batch, part, sources.edited):
            if share.made != made:
                made, begun = share.made, cache  # lets go of the former pass
                edits = Intervention(made)
                begun = self._passes.continued(batch, cache, edits.start, sources.writers([edits]))
            self._run_share(batch, begun, base, sources, share, out, tick)

    def _sources(self, batch: Batch, plan: Iterable[Intervention]) -> Sources:
        return Sources.collect(self._passes, self.prompts, batch, plan, self._capacity)

    def shares(self, batch: Batch, part: Mapping[int, Intervention] | None = None, edited: Edited | None = None) -> list[Share]:
        """What runs together: interventions that start from one kept pass, at one block, and change about the same nodes.

        Args:
            batch: of this executor.
            part: of the plan, by index; by default all of it.
            edited: the nodes of `batch` that an edit writes to; by default all that its positions name.
        """
        if not self._passes.can_leave_out(batch):
            edited = None
        elif edited is None:
            edited = lambda edit: batch.select(self.prompts, edit.positions)  # noqa: E731
        plan = dict(enumerate(self.plan)) if part is None else part
        return shares(plan, batch, self.network.shape.n_layers, edited, self._passes.paths(batch).resume)

    def _run_share(
        self,
        batch: Batch,
        cache: Cache,
        base: Readout,
        sources: Sources,
        share: Share,
        out: BatchResult,
        tick: Callable[[int], object],
    ) -> None:
        done, group, nodes = 0, list(share.runs), batch.n_nodes if share.only is None else len(share.only)
        numbers = LOGITS_HELD_OF_PLACED if is_placed(self.network.hf) else LOGITS_HELD
        held = numbers // base.logits.numel()
        while done < len(group):
            most = min(self._capacity // nodes, held)
            chunk = group[done : done + _even_share(len(group) - done, most)]
            try:
                writers = sources.writers([share.runs[i] for i in chunk], share.only)
                logits = self._passes.edited(batch, cache, share.start, writers, len(chunk), share.only)
                out.add(self.metrics, chunk, logits, base, [self.plan[i].label for i in chunk])
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or len(chunk) == 1:
                    raise
                self._capacity = max(nodes, self._capacity // 2)
                log.warning("memory ran out; going on with %d tokens in one forward pass", self._capacity)
                continue
            done += len(chunk)
            tick(len(chunk) * len(batch.examples))

    def _check_self_patch(self, batch: Batch, cache: Cache) -> None:
        """Patching a run with itself must change nothing, at the first and the middle block."""

        def rewrite(x: Values) -> None:  # what is there already
            x.copy_(x.clone())

        for layer in (0, self.network.shape.n_layers // 2):
            component = next(c for c in ("z", "mlp_out", "resid_post") if c in self.network.parts[layer].points)
            logits = self._passes.edited(batch, cache, layer, {(component, layer): [rewrite]}, 1)
            if not torch.equal(logits[0], cache.logits):
                worst = (logits[0] - cache.logits).abs().max().item()
                raise GuardError(f"patching the run with itself at block {layer} changed logits by up to {worst:.1e}")


def _even_share(n: int, most: int) -> int:
    """How many of `n` runs to make next, at most `most` at once: parts of one size, since small matrices are slow."""
    parts = -(-n // max(1, most))
    return -(-n // parts)


def give_back() -> None:
    """Return free memory to the system; nothing where the C library cannot.

    Batches differ in size, so what one freed seldom fits the next, and glibc keeps it: without this, 2,000 prompts of the
    default model end with .3 GiB more than the first 64 took. It costs some hundredths of a second a batch.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(0)
