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
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor

from tiny_ablation.engine.edits import Edit, PositionSpec, Replacement
from tiny_ablation.engine.forward import NodeValues, Passes, Place, Values, Writer
from tiny_ablation.engine.layout import Batch, build_batches
from tiny_ablation.engine.prompts import Prompt, Read, TokenSequence, sequences
from tiny_ablation.errors import DataError
from tiny_ablation.metrics.readout import of_sets
from tiny_ablation.models.network import Network

# A backward pass keeps what every block computed: about 2 MB a token on a model of 135M parameters.
GRAPH_TOKENS = 256


@dataclass(frozen=True)
class AttributionQuery:
    """What is estimated."""

    component: str  # see `tiny_ablation.models.hookpoints`
    replacement: Replacement | None = None  # what would be put in; None for zero
    positions: PositionSpec = "all"  # the tokens that would be touched
    steps: int = 0  # of the integrated form; 0 is the gradient form
    full: bool = False  # for the log probability of whole answers instead of the logit difference of their first tokens
    layers: Sequence[int] | None = None  # which layers are asked about; None for all

    def layers_of(self, network: Network) -> Sequence[int]:
        """The layers that are asked about."""
        return network.shape.layers_with(self.component) if self.layers is None else self.layers

    @property
    def metric(self) -> str:
        """The metric whose change is estimated."""
        return "seq_logprob_diff" if self.full else "logit_diff"


def estimate(
    network: Network, prompts: Sequence[Prompt], question: AttributionQuery, *, batch_tokens: int = GRAPH_TOKENS
) -> Float64[Tensor, "n_layers n_units {len(prompts)}"]:
    """The estimated change of the metric for every site and example, on the CPU; 0 in layers that are not asked about.

    Raises:
        DataError: an example has no foil; or a source run is not as long as its prompt, and more than the last token would be
            touched.
    """
    without = [p.name for p in prompts if not (p.foil or p.wrong)]
    if without:
        raise DataError(
            f"attribution estimates the change of {question.metric}, which compares the target with a foil, and {len(without)} "
            f"examples have none: {', '.join(without[:5])}; give them one, or do without estimates (ablation.screen=null)"
        )
    sources = () if question.replacement is None else question.replacement.sources or ()
    wrong = [p.name for p, s in zip(prompts, sources, strict=False) if len(p.ids) != len(s)]
    if wrong and question.positions != "last":
        raise DataError(
            f"attribution: clean and corrupt prompts of {len(wrong)} examples differ in token length, so their positions "
            f"cannot be matched: {', '.join(wrong[:5])}; take ablation.replacement=zero, ablation.positions=last, or another "
            "dataset"
        )
    shape = network.shape
    out = torch.zeros(shape.n_layers, shape.n_units(question.component), len(prompts), dtype=torch.float64)
    for part in _parts(network, prompts, question, max(1, batch_tokens // max(1, question.steps))):
        owner = part.by_node(lambda row, _position, part=part: part.examples[row])
        for layer, change in part.integrated() if question.steps else part.at_the_run():
            # (units, nodes) summed into the examples that the nodes belong to
            out[layer].index_add_(1, owner, change.double().cpu())
    return out


def gradients_at(
    network: Network, prompts: Sequence[Prompt], place: Place, *, full: bool = False, batch_tokens: int = GRAPH_TOKENS
) -> Iterator[tuple[int, Float[Tensor, "seq units width"], Float[Tensor, "seq units width"]]]:
    """The index of each example, what stands at one place of its run, and the gradient of the metric there.

    With `full` the metric is the log probability of whole answers, as in `AttributionQuery`; each example then comes twice.
    """
    for part in _parts(network, prompts, AttributionQuery(place[0], full=full), batch_tokens):
        leaves: dict[Place, Tensor] = {}
        with torch.enable_grad():
            cache = part.passes.clean(part.batch, [place], writers={place: [_adding(leaves, place)]})
            (grad,) = torch.autograd.grad(part.metric(cache.logits), [leaves[place]])
        for example, nodes in zip(part.examples, part.batch.nodes, strict=True):
            yield example, cache.at[place][nodes].detach(), grad[0, nodes]


def passes_needed(network: Network, question: AttributionQuery) -> int:
    """Backward passes over each example."""
    return 1 if not question.steps else question.steps * len(question.layers_of(network))


def _parts(network: Network, prompts: Sequence[Prompt], question: AttributionQuery, max_nodes: int) -> "Iterator[_Part]":
    """The prompts in batches, every strand a row of its own: where prompts share nodes, so would their gradients be mixed."""
    strands, passes = sequences(prompts, full=question.full), Passes(network)
    rows = [TokenSequence(index, strand.ids, strand.reads) for index, strand in enumerate(strands)]
    for batch in build_batches(rows, lambda row, _: row, max_nodes=max_nodes, shared=False):
        yield _Part(passes, batch, [strands[s.example].example for s in batch.sequences], prompts, question)


@dataclass(frozen=True)
class _Part:
    """One batch, whose rows are one strand each."""

    passes: Passes
    batch: Batch
    examples: Sequence[int]
    prompts: Sequence[Prompt]
    question: AttributionQuery

    @property
    def places(self) -> list[Place]:
        """The component in every layer that is asked about."""
        return [(self.question.component, layer) for layer in self.question.layers_of(self.passes.network)]

    def at_the_run(self) -> Iterator[tuple[int, Float[Tensor, "units nodes"]]]:
        """For each layer the estimated change by the gradient form, node by node."""
        values, leaves = self._values(), {}
        writers = {place: [_adding(leaves, place)] for place in self.places}
        with torch.enable_grad():
            cache = self.passes.clean(self.batch, writers=writers)
            grads = torch.autograd.grad(self.metric(cache.logits), [leaves[place] for place in self.places])
        for (_, layer), grad, (clean, put) in zip(self.places, grads, values, strict=True):
            yield layer, self._product(grad[0], put - clean)

    def integrated(self) -> Iterator[tuple[int, Float[Tensor, "units nodes"]]]:
        """The same by the integrated form."""
        steps, values = self.question.steps, self._values()
        with torch.no_grad():
            cache = self.passes.clean(self.batch)
        # Midpoints of equal parts of the way: (steps, 1, 1, 1)
        way = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps).view(-1, 1, 1, 1)
        for place, (clean, put) in zip(self.places, values, strict=True):
            change = (put - clean) * self._covered().to(clean)[:, None, None]
            points = (clean + way.to(clean) * change).requires_grad_(True)
            with torch.enable_grad():
                logits = self.passes.edited(self.batch, cache, place[1], {place: [_putting(points)]}, steps)
                (grad,) = torch.autograd.grad(torch.stack([self.metric(run) for run in logits]).sum(), [points])
            yield place[1], self._product(grad.mean(0), change)

    def _product(self, grad: NodeValues, change: NodeValues) -> Float[Tensor, "units nodes"]:
        return ((grad * change).sum(-1) * self._covered().to(grad)[:, None]).T

    @torch.no_grad()
    def _values(self) -> list[tuple[NodeValues, NodeValues]]:
        """For each place what the run has and what would be put in."""
        replacement = self.question.replacement
        clean = self.passes.clean(self.batch, self.places).at
        if replacement is None:
            return [(clean[place], torch.zeros_like(clean[place])) for place in self.places]
        sources, out = self._sources(replacement, clean), []
        for place in self.places:
            edit = Edit(*place, None, replacement, self.question.positions)
            out.append((clean[place], replacement.value(clean[place], sources.get(place), edit)))
        return out

    def _sources(self, replacement: Replacement, clean: dict[Place, NodeValues]) -> dict[Place, NodeValues]:
        """For each place what the replacement takes from elsewhere; a token without a counterpart keeps its own value."""
        if (lookup := replacement.lookup) is not None:
            rows = self.by_node(lambda row, at: lookup.row(self.examples[row], at))
            tables = {place: lookup.values(*place) for place in self.places}
            return {place: table[rows.to(table.device)] for place, table in tables.items()}
        if replacement.sources is None:
            return {}
        taken = {place: values.clone() for place, values in clean.items()}
        read = Read(0, (0,), (0,), is_foil=False)  # nobody looks at it, but a forward pass reads something
        runs = [TokenSequence(row, replacement.sources[example], (read,)) for row, example in enumerate(self.examples)]
        for run in build_batches(runs, lambda row, _: row, max_nodes=self.batch.n_nodes, shared=False):
            at = self.passes.clean(run, self.places).at
            pairs = []  # the nodes that have a counterpart in these source runs, and the counterparts
            for strand, theirs in zip(run.sequences, run.nodes, strict=True):
                length = len(self.prompts[self.examples[strand.example]].ids)
                for position, node in enumerate(self.batch.nodes[strand.example]):
                    counterpart = replacement.source_position(position, length, len(strand.ids))
                    pairs += [] if counterpart is None else [(node, theirs[counterpart])]
            here, there = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T
            for place, values in taken.items():
                values[here] = at[place][there]
        return taken

    def _covered(self) -> Bool[Tensor, "nodes"]:
        """The nodes that would be touched."""
        positions = self.question.positions
        return self.by_node(lambda row, at: self.prompts[self.examples[row]].covers(positions, at))

    def by_node(self, value: Callable[[int, int], int | bool]) -> Shaped[Tensor, "{self.batch.n_nodes}"]:
        """The value of each node, from its row and position."""
        flat = {node: value(row, at) for row, nodes in enumerate(self.batch.nodes) for at, node in enumerate(nodes)}
        return torch.tensor([flat[node] for node in range(self.batch.n_nodes)])

    def metric(self, logits: Float[Tensor, "n_reads d_vocab"]) -> Float[Tensor, ""]:
        """The metric summed over the batch: rows do not see each other, so gradients stay apart."""
        reads = self.batch.reads.to(str(logits.device))
        wide = logits if logits.dtype == torch.float64 else logits.float()
        if self.question.full:
            wide = wide.log_softmax(-1)
            sign = 1 - 2 * reads.is_foil.to(wide)
            return (of_sets(wide, reads.tokens) * sign).sum()
        return (of_sets(wide, reads.tokens) - of_sets(wide, reads.foils)).sum()


def _adding(leaves: dict[Place, Tensor], place: Place) -> Writer:
    """Adds a zero, whose gradient is that of what stands there."""

    def write(x: Values) -> None:
        leaves[place] = torch.zeros_like(x, requires_grad=True)
        x.add_(leaves[place])

    return write


def _putting(points: Values) -> Writer:
    def write(x: Values) -> None:
        x.copy_(points)

    return write
