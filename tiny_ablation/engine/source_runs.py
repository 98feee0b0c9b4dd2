"""The values that are put in: where they come from, aligned with the tokens of a batch.

They come from other runs (patching, resampling), of this model or another one, from an edited run of the prompt itself (path
patching), or from tables that are made beforehand (means, noise). Costs one clean pass over the distinct source prompts of
a batch, and for edited source runs one pass more each, from the block of their first edit on. How much is held at once: see
`tiny_ablation.engine.parts`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tiny_ablation.engine.edits import Edit, Intervention, PositionSpec, Replacement
from tiny_ablation.engine.forward import NodeValues, Passes, Place, Values, Writer
from tiny_ablation.engine.layout import Batch, build_batches
from tiny_ablation.engine.parts import source_prompts
from tiny_ablation.engine.prompts import Prompt, Prompts, TokenSequence, sequences

# Nodes of one pass over source prompts.
SOURCE_NODES = 1024

Wanted = dict[int, tuple[Replacement, set[Place]]]  # by the identity of the replacement
SourceValues = Float[Tensor, "source_nodes units width"]


@dataclass
class Sources:
    """Values of source runs, and of tables made beforehand, at the nodes of a batch."""

    prompts: Prompts  # the prompts of the batch's examples, by example
    batch: Batch
    # for each network (by identity; that of None is the one that is run) and place what the clean source runs have there
    plain: dict[tuple[int, Place], SourceValues] = field(default_factory=dict)
    # for each replacement whose source run is edited (by identity) and place, the same of that run
    edited_runs: dict[tuple[int, Place], SourceValues] = field(default_factory=dict)
    # for each replacement the source node of each node of the batch, -1 where there is none
    index: dict[int, Int[Tensor, "nodes"]] = field(default_factory=dict)
    rows: dict[int, Int[Tensor, "nodes"]] = field(default_factory=dict)  # for each table the row of each node
    # for each choice of positions its nodes, as `Batch.select` gives them
    selected: dict[PositionSpec, Int[Tensor, "k"] | None] = field(default_factory=dict)
    # for each choice of keys the scores that it means, as `Batch.keys` gives them
    keys: dict[PositionSpec, Bool[Tensor, "nodes row_width"]] = field(default_factory=dict)
    # for each replacement and choice of positions the nodes of these that have a source node
    limited: dict[tuple[int, PositionSpec], Int[Tensor, "k"] | None] = field(default_factory=dict)

    @classmethod
    def collect(cls, passes: Passes, prompts: Prompts, batch: Batch, plan: Iterable[Intervention], capacity: int) -> "Sources":
        """Run the sources of all edits of `plan` once each, `capacity` tokens in one pass where several are run together."""
        out = cls(prompts, batch)
        plain: dict[int, Wanted] = {}
        by_source: dict[tuple[int, int], Wanted] = {}
        for edit in (edit for intervention in plan for edit in intervention.edits):
            replacement = edit.replacement
            if replacement.sources is None:
                continue
            network = id(replacement.network)
            if replacement.within is None:
                of_source = plain.setdefault(network, {})
            else:
                of_source = by_source.setdefault((id(replacement.sources), network), {})
            of_source.setdefault(id(replacement), (replacement, set()))[1].add((edit.component, edit.layer))
        for wanted in plain.values():
            out._run_plain(passes, wanted)
        for wanted in by_source.values():
            out._run_edited(passes, wanted, capacity)
        return out

    def writers(self, interventions: Sequence[Intervention], only: Int[Tensor, "k"] | None = None) -> dict[Place, list[Writer]]:
        """What makes the edits of copy 0, 1, ... of the batch.

        Args:
            interventions: one a copy.
            only: the nodes that the copies have, ascending; None for all.
        """
        writers: dict[Place, list[Writer]] = {}
        for run, intervention in enumerate(interventions):
            for edit in intervention.edits:
                nodes = self.edited(edit)
                where = nodes if only is None or nodes is None else torch.searchsorted(only, nodes)
                writers.setdefault((edit.component, edit.layer), []).append(self._writer(run, edit, nodes, where))
        return writers

    def _writer(self, run: int, edit: Edit, nodes: Int[Tensor, "k"] | None, where: Int[Tensor, "k"] | None) -> Writer:
        lookup = edit.replacement.lookup
        if lookup is not None:
            lookup.values(edit.component, edit.layer)  # where they are made by running the model, not amid a pass

        def write(x: Values) -> None:
            # this intervention's copy, and the unit where one is named
            mine = x[run] if edit.unit is None else x[run, :, edit.unit]
            source = self._get(edit, nodes)  # not before: all writers of a pass together would hold a lot
            if where is None:
                mine.copy_(edit.replacement.value(mine, source, edit))
            else:
                at = where.to(x.device)
                mine[at] = edit.replacement.value(mine[at], source, edit)

        return write

    def edited(self, edit: Edit) -> Int[Tensor, "k"] | None:
        """The nodes that an edit writes to, ascending; None for all.

        A token without a counterpart in the source run keeps its own value.
        """
        if edit.positions not in self.selected:
            self.selected[edit.positions] = self.batch.select(self.prompts, edit.positions)
        nodes = self.selected[edit.positions]
        if edit.replacement.sources is None:
            return nodes
        key = id(edit.replacement), edit.positions
        if key not in self.limited:
            aligned = self.index[key[0]] >= 0
            if nodes is not None:
                self.limited[key] = nodes[aligned[nodes]]
            else:
                self.limited[key] = None if aligned.all() else aligned.nonzero()[:, 0]
        return self.limited[key]

    def _run_plain(self, passes: Passes, wanted: Wanted) -> None:
        """Clean runs of one network on the distinct source prompts of all replacements."""
        network = next(iter(wanted.values()))[0].network
        passes = passes.of(network)
        number = {
            ids: i for i, ids in enumerate(source_prompts((replacement for replacement, _ in wanted.values()), self.batch))
        }
        prompts = [Prompt(ids, (0,), (0,), {}, f"source {i}") for ids, i in number.items()]
        places = sorted(set().union(*(places for _, places in wanted.values())))
        at: dict[Place, list[Tensor]] = {place: [] for place in places}
        nodes_of, start = {}, 0
        items, untagged = sequences(prompts, full=False), lambda _e, _p: None
        for run in build_batches(items, untagged, max_nodes=SOURCE_NODES, shared=True, limits=passes.network.trees):
            unread = replace(run, read_nodes=run.read_nodes[:1])  # its logits are of no use
            for place, values in passes.clean(unread, places).at.items():
                at[place].append(values)
            for sequence, nodes in zip(run.sequences, run.nodes, strict=True):
                nodes_of[sequence.example] = [start + node for node in nodes]
            start += run.n_nodes
        for place in places:
            self.plain[id(network), place] = torch.cat(at.pop(place))
        for key, (replacement, _) in wanted.items():
            assert replacement.sources is not None
            of_example = {e: nodes_of[number[replacement.sources[e]]] for e in self.batch.examples}
            self.index[key] = self._alignment(of_example, replacement)

    def _run_edited(self, passes: Passes, wanted: Wanted, capacity: int) -> None:
        """The edited runs of one network on one set of source prompts, each a run of its own."""
        first = next(iter(wanted.values()))[0]
        sources, passes = first.sources, passes.of(first.network)
        assert sources is not None
        own = {e: Prompt(sources[e], (0,), (0,), self.prompts[e].marks, self.prompts[e].name) for e in self.batch.examples}
        items = [TokenSequence(e, s.ids, s.reads) for e in own for s in sequences([own[e]], full=False)]
        start = 0
        parts: dict[tuple[int, Place], list[Tensor]] = {}
        nodes_of: dict[int, list[int]] = {}
        for run in build_batches(items, lambda e, _: e, max_nodes=10**9, shared=True, limits=passes.network.trees):
            for key, place, values in _edited_runs(passes, run, own, wanted, capacity):
                parts.setdefault((key, place), []).append(values)
            for sequence, nodes in zip(run.sequences, run.nodes, strict=True):
                nodes_of[sequence.example] = [start + node for node in nodes]
            start += run.n_nodes
        self.edited_runs |= {of: torch.cat(values) for of, values in parts.items()}
        for key, (replacement, _) in wanted.items():
            self.index[key] = self._alignment(nodes_of, replacement)

    def _alignment(self, nodes_of: dict[int, list[int]], replacement: Replacement) -> Int[Tensor, "nodes"]:
        """For each node of the batch its node in the source runs (-1 where none)."""
        index = torch.full((self.batch.n_nodes,), -1)
        for node, (example, position) in self.batch.owners().items():
            source = nodes_of[example]
            aligned = replacement.source_position(position, len(self.prompts[example].ids), len(source))
            if aligned is not None:
                index[node] = source[aligned]
        return index

    def _get(
        self, edit: Edit, nodes: Int[Tensor, "k"] | None
    ) -> Float[Tensor, "k *units width"] | Bool[Tensor, "k 1 row_width"] | None:
        """The source's values where the edit writes, without the axis of units where it names one; of scores, which."""
        replacement, lookup = edit.replacement, edit.replacement.lookup
        if edit.keys is not None:
            if edit.keys not in self.keys:
                self.keys[edit.keys] = self.batch.keys(self.prompts, edit.keys)
            meant = self.keys[edit.keys]
            return (meant if nodes is None else meant[nodes])[:, None]
        if lookup is not None:
            if id(lookup) not in self.rows:
                owners = self.batch.owners()
                self.rows[id(lookup)] = torch.tensor([lookup.row(*owners[n]) for n in range(len(owners))], dtype=torch.long)
            rows, values = self.rows[id(lookup)], lookup.values(edit.component, edit.layer)
        elif replacement.sources is None:
            return None
        else:
            key, place = id(replacement), (edit.component, edit.layer)
            rows = self.index[key]
            edited = replacement.within is not None
            values = self.edited_runs[key, place] if edited else self.plain[id(replacement.network), place]
        at = (rows if nodes is None else rows[nodes]).to(values.device)
        return values[at] if edit.unit is None else values[at, edit.unit]


def _edited_runs(
    passes: Passes, run: Batch, own: dict[int, Prompt], wanted: Wanted, capacity: int
) -> Iterator[tuple[int, Place, NodeValues]]:
    """For each replacement whose source run is edited what stands at each place it is asked for, at the nodes of the run."""
    entries = [(key, r.within, places) for key, (r, places) in wanted.items() if r.within is not None]
    entries.sort(key=lambda entry: entry[1].start)  # a chunk resumes at its first start
    cache = passes.clean(run)
    inner = Sources.collect(passes, own, run, [within for _, within, _ in entries], capacity)
    step = max(1, capacity // run.n_nodes)
    for first in range(0, len(entries), step):
        chunk = entries[first : first + step]
        capture = sorted(set().union(*(places for _, _, places in chunk)))
        withins = [within for _, within, _ in chunk]
        at = passes.captured(run, cache, withins[0].start, inner.writers(withins), len(chunk), capture)
        for i, (key, _, places) in enumerate(chunk):
            for place in sorted(places):
                yield key, place, at[place][i].clone()  # not the others, as long as this is held
