"""What every site of a component would do, estimated from gradients: a few backward passes instead of a pass per site.

The effect of writing `r` where the run has `x` is estimated by `g . (r - x)`, summed over positions, with `g` the gradient
of the metric with respect to `x`:

- *gradient* (attribution patching): `g` of the un-intervened run; one backward pass for all layers. Exact where the metric
  is linear in `x`, and blind where it is flat there but not far from there (saturated attention, a zeroed first layer).
- *integrated*: `g` averaged along the straight line from `x` to `r`, for one layer at a time and all of its units together;
  a pass from that layer on for each step. Exact for a layer of one unit in the limit of many steps.

References: Nanda 2023, "Attribution patching"; Syed et al. 2023, "Attribution patching outperforms automated circuit
discovery"; Hanna et al. 2024, "Have faith in faithfulness" (integrated gradients).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tiny_ablation.engine.edits import Edit, Ids, PositionSpec, Replacement
from tiny_ablation.engine.forward import Passes, Place, Writer
from tiny_ablation.engine.layout import Batch, build_batches
from tiny_ablation.engine.prompts import Prompt, Read, TokenSequence, sequences
from tiny_ablation.errors import DataError
from tiny_ablation.metrics.readout import of_sets
from tiny_ablation.models.network import Network

# A backward pass keeps what every block computed: about 2 MB a token on a model of 135M parameters.
GRAPH_TOKENS = 256


@dataclass(frozen=True)
class AttributionQuery:
    """What is estimated.

    Attributes:
        component: see `tiny_ablation.models.hookpoints`.
        replacement: what would be put in; None for zero.
        positions: the tokens that would be touched.
        steps: of the integrated form; 0 is the gradient form.
        full: for the log probability of whole answers instead of the logit difference of their first tokens.
        layers: which layers are asked about; None for all.
    """

    component: str
    replacement: Replacement | None = None
    positions: PositionSpec = "all"
    steps: int = 0
    full: bool = False
    layers: Sequence[int] | None = None

    def layers_of(self, network: Network) -> Sequence[int]:
        """The layers that are asked about."""
        return network.shape.layers_with(self.component) if self.layers is None else self.layers

    @property
    def metric(self) -> str:
        """The metric whose change is estimated."""
        return "seq_logprob_diff" if self.full else "logit_diff"


def estimate(
    network: Network, prompts: Sequence[Prompt], question: AttributionQuery, *, batch_tokens: int = GRAPH_TOKENS
) -> Tensor:
    """The estimated change of the metric for every site and example.

    Args:
        network: the model.
        prompts: the runs that would be intervened on.
        question: the intervention and the metric.
        batch_tokens: tokens whose computation is kept at once.

    Returns:
        (n_layers, n_units, n_examples) float64, on the CPU; 0 in layers that are not asked about.

    Raises:
        DataError: a source run is not as long as its prompt, and more than the last token would be touched.
    """
    _check_foils(prompts, question)
    _check_lengths(prompts, question)
    shape = network.shape
    out = torch.zeros(shape.n_layers, shape.n_units(question.component), len(prompts), dtype=torch.float64)
    strands = sequences(prompts, full=question.full)
    # Every strand is a row of its own: where prompts share nodes, so would their gradients be mixed.
    rows = [TokenSequence(index, strand.ids, strand.reads) for index, strand in enumerate(strands)]
    size = max(1, batch_tokens // max(1, question.steps))
    passes = Passes(network)
    for batch in build_batches(rows, lambda row, _: row, max_nodes=size, shared=False):
        part = _Part(passes, batch, [strands[s.example].example for s in batch.sequences], prompts, question)
        for layer, change in part.layers():
            # (units, nodes) summed into the examples that the nodes belong to
            out[layer].index_add_(1, part.owner, change.double().cpu())
    return out


def gradients_at(
    network: Network, prompts: Sequence[Prompt], place: Place, *, full: bool = False, batch_tokens: int = GRAPH_TOKENS
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """What stands at one place of each run, and the gradient of the metric there.

    Args:
        network: the model.
        prompts: the runs.
        place: (component, layer).
        full: for the log probability of whole answers, as in `AttributionQuery`; each example then comes twice.
        batch_tokens: tokens whose computation is kept at once.

    Yields:
        The index of the example, and two (seq, units, width).
    """
    strands = sequences(prompts, full=full)
    rows = [TokenSequence(index, strand.ids, strand.reads) for index, strand in enumerate(strands)]
    for batch in build_batches(rows, lambda row, _: row, max_nodes=batch_tokens, shared=False):
        examples = [strands[s.example].example for s in batch.sequences]
        part = _Part(Passes(network), batch, examples, prompts, AttributionQuery(place[0], full=full))
        leaves: dict[Place, Tensor] = {}
        with torch.enable_grad():
            cache = part.passes.clean(batch, [place], writers={place: [_adding(leaves, place)]})
            (grad,) = torch.autograd.grad(part._metric(cache.logits), [leaves[place]])
        for example, nodes in zip(examples, batch.nodes, strict=True):
            yield example, cache.at[place][nodes].detach(), grad[0, nodes]


def passes_needed(network: Network, question: AttributionQuery) -> int:
    """Backward passes over each example."""
    return 1 if not question.steps else question.steps * len(question.layers_of(network))


@dataclass(frozen=True)
class _Part:
    """One batch, whose rows are one strand each."""

    passes: Passes
    batch: Batch
    examples: Sequence[int]
    prompts: Sequence[Prompt]
    question: AttributionQuery

    @property
    def owner(self) -> Tensor:
        """(nodes,) the example each node belongs to."""
        return self._by_node(lambda row, _position: self.examples[row])

    def layers(self) -> Iterator[tuple[int, Tensor]]:
        """For each layer (units, nodes): the estimated change, node by node."""
        return self._integrated() if self.question.steps else self._at_the_run()

    def _at_the_run(self) -> Iterator[tuple[int, Tensor]]:
        values, leaves = self._values(), {}
        writers = {place: [_adding(leaves, place)] for place in self._places}
        with torch.enable_grad():
            cache = self.passes.clean(self.batch, writers=writers)
            grads = torch.autograd.grad(self._metric(cache.logits), [leaves[place] for place in self._places])
        for (_, layer), grad, (clean, put) in zip(self._places, grads, values, strict=True):
            yield layer, self._product(grad[0], put - clean)

    def _integrated(self) -> Iterator[tuple[int, Tensor]]:
        steps, values = self.question.steps, self._values()
        with torch.no_grad():
            cache = self.passes.clean(self.batch)
        # Midpoints of equal parts of the way: (steps, 1, 1, 1)
        way = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps).view(-1, 1, 1, 1)
        for place, (clean, put) in zip(self._places, values, strict=True):
            change = (put - clean) * self._covered().to(clean)[:, None, None]
            points = (clean + way.to(clean) * change).requires_grad_(True)
            with torch.enable_grad():
                logits = self.passes.edited(self.batch, cache, place[1], {place: [_putting(points)]}, steps)
                (grad,) = torch.autograd.grad(torch.stack([self._metric(run) for run in logits]).sum(), [points])
            yield place[1], self._product(grad.mean(0), change)

    def _product(self, grad: Tensor, change: Tensor) -> Tensor:
        """(units, nodes) from two (nodes, units, width)."""
        return ((grad * change).sum(-1) * self._covered().to(grad)[:, None]).T

    @property
    def _places(self) -> list[Place]:
        """The component in every layer that is asked about."""
        return [(self.question.component, layer) for layer in self.question.layers_of(self.passes.network)]

    def _values(self) -> list[tuple[Tensor, Tensor]]:
        """For each place what the run has and what would be put in, (nodes, units, width)."""
        with torch.no_grad():
            clean = self.passes.clean(self.batch, self._places).at
            sources = self._sources(clean)
            return [(clean[place], self._put(place, clean[place], sources.get(place))) for place in self._places]

    def _put(self, place: Place, clean: Tensor, source: Tensor | None) -> Tensor:
        replacement = self.question.replacement
        if replacement is None:
            return torch.zeros_like(clean)
        return replacement.value(clean, source, Edit(*place, None, replacement, self.question.positions))

    def _sources(self, clean: dict[Place, Tensor]) -> dict[Place, Tensor]:
        """For each place what the replacement takes from elsewhere; a token without a counterpart keeps its own value."""
        replacement = self.question.replacement
        if replacement is not None and replacement.lookup is not None:
            lookup = replacement.lookup
            rows = self._by_node(lambda row, at: lookup.row(self.examples[row], at))
            tables = {place: lookup.values(*place) for place in self._places}
            return {place: table[rows.to(table.device)] for place, table in tables.items()}
        if replacement is None or replacement.sources is None:
            return {}
        taken = {place: values.clone() for place, values in clean.items()}
        for run in self._source_batches(replacement.sources):
            at = self.passes.clean(run, self._places).at
            here, there = self._aligned(run, replacement)
            for place, values in taken.items():
                values[here] = at[place][there]
        return taken

    def _source_batches(self, sources: Sequence[Ids]) -> list[Batch]:
        """The source runs of the batch's rows, each a row of its own again."""
        read = Read(0, (0,), (0,), is_foil=False)  # nobody looks at it, but a forward pass reads something
        runs = [TokenSequence(row, sources[example], (read,)) for row, example in enumerate(self.examples)]
        return build_batches(runs, lambda row, _: row, max_nodes=self.batch.n_nodes, shared=False)

    def _aligned(self, run: Batch, replacement: Replacement) -> tuple[Tensor, Tensor]:
        """The nodes that have a counterpart in these source runs, and the counterparts."""
        pairs = []
        for strand, nodes in zip(run.sequences, run.nodes, strict=True):
            length = len(self.prompts[self.examples[strand.example]].ids)
            for at, node in enumerate(self.batch.nodes[strand.example]):
                place = replacement.source_position(at, length, len(strand.ids))
                pairs += [] if place is None else [(node, nodes[place])]
        here, there = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T
        return here, there

    def _covered(self) -> Tensor:
        """(nodes,) bool: the nodes that would be touched."""
        positions = self.question.positions
        return self._by_node(lambda row, at: self.prompts[self.examples[row]].covers(positions, at))

    def _by_node(self, value: Callable[[int, int], int | bool]) -> Tensor:
        flat = {node: value(row, at) for row, nodes in enumerate(self.batch.nodes) for at, node in enumerate(nodes)}
        return torch.tensor([flat[node] for node in range(self.batch.n_nodes)])

    def _metric(self, logits: Tensor) -> Tensor:
        """The metric summed over the batch, from (n_reads, d_vocab): rows do not see each other, so gradients stay apart."""
        reads = self.batch.reads.to(str(logits.device))
        wide = logits if logits.dtype == torch.float64 else logits.float()
        if self.question.full:
            wide = wide.log_softmax(-1)
            sign = 1 - 2 * reads.is_foil.to(wide)
            return (of_sets(wide, reads.tokens) * sign).sum()
        return (of_sets(wide, reads.tokens) - of_sets(wide, reads.foils)).sum()


def _check_foils(prompts: Sequence[Prompt], question: AttributionQuery) -> None:
    without = [p.name for p in prompts if not (p.foil or p.wrong)]
    if without:
        raise DataError(
            f"attribution estimates the change of {question.metric}, which compares the target with a foil, and {len(without)} "
            f"examples have none: {', '.join(without[:5])}; give them one, or do without estimates (ablation.screen=null)"
        )


def _check_lengths(prompts: Sequence[Prompt], question: AttributionQuery) -> None:
    sources = () if question.replacement is None else question.replacement.sources or ()
    wrong = [p.name for p, s in zip(prompts, sources, strict=False) if len(p.ids) != len(s)]
    if wrong and question.positions != "last":
        raise DataError(
            f"attribution: clean and corrupt prompts of {len(wrong)} examples differ in token length, so their positions "
            f"cannot be matched: {', '.join(wrong[:5])}; take ablation.replacement=zero, ablation.positions=last, or another "
            "dataset"
        )


def _adding(leaves: dict[tuple[str, int], Tensor], place: tuple[str, int]) -> Writer:
    """Adds a zero, whose gradient is that of what stands there."""

    def write(x: Tensor) -> None:
        leaves[place] = torch.zeros_like(x, requires_grad=True)
        x.add_(leaves[place])

    return write


def _putting(points: Tensor) -> Writer:
    def write(x: Tensor) -> None:
        x.copy_(points)

    return write
