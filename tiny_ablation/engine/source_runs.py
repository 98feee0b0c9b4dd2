"""The values that are put in: where they come from, aligned with the tokens of a batch.

They come from other runs (patching, resampling), of this model or another one, from an edited run of the prompt itself (path
patching), or from tables that stand ready (means, noise). Costs one clean pass over the distinct source prompts of a batch, and
for edited source runs one pass more each, from the block of their first edit on. How much is held at once: see
`tiny_ablation.engine.parts`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tiny_ablation.engine.edits import Edit, Ids, Intervention, Lookup, PositionSpec, Replacement
from tiny_ablation.engine.forward import Passes, Place, Writer
from tiny_ablation.engine.layout import Batch, build_batches
from tiny_ablation.engine.parts import source_prompts
from tiny_ablation.engine.prompts import Prompt, Prompts, sequences

# Nodes of one pass over source prompts.
SOURCE_NODES = 1024

Wanted = dict[int, tuple[Replacement, set[Place]]]  # by the identity of the replacement


@dataclass
class Sources:
    """Values of source runs, and of tables that stand ready, at the nodes of a batch.

    Attributes:
        prompts: the prompts of the batch's examples, by example.
        batch: the batch.
        plain: for each network (by identity; that of None is the one that is run) and place what the clean source runs have
            there, (source nodes, units, width).
        edited_runs: for each replacement whose source run is edited (by identity) and place, the same of that run.
        index: for each replacement the source node of each node of the batch, -1 where there is none.
        rows: for each table the row of each node.
        selected: for each choice of positions its nodes, as `Batch.select` gives them.
        keys: for each choice of keys the scores that it means, as `Batch.keys` gives them.
        limited: for each replacement and choice of positions the nodes of these that have a source node.
    """

    prompts: Prompts
    batch: Batch
    plain: dict[tuple[int, Place], Tensor] = field(default_factory=dict)
    edited_runs: dict[tuple[int, Place], Tensor] = field(default_factory=dict)
    index: dict[int, Tensor] = field(default_factory=dict)
    rows: dict[int, Tensor] = field(default_factory=dict)
    selected: dict[PositionSpec, Tensor | None] = field(default_factory=dict)
    keys: dict[PositionSpec, Tensor] = field(default_factory=dict)
    limited: dict[tuple[int, PositionSpec], Tensor | None] = field(default_factory=dict)

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

    def writers(self, interventions: Sequence[Intervention], only: Tensor | None = None) -> dict[Place, list[Writer]]:
        """What makes the edits of copy 0, 1, ... of the batch.

        Args:
            interventions: one a copy.
            only: (k,) the nodes that the copies have, ascending; None for all.
        """
        writers: dict[Place, list[Writer]] = {}
        for run, intervention in enumerate(interventions):
            for edit in intervention.edits:
                nodes = self.edited(edit)
                where = nodes if only is None or nodes is None else torch.searchsorted(only, nodes)
                writers.setdefault((edit.component, edit.layer), []).append(self._writer(run, edit, nodes, where))
        return writers

    def _writer(self, run: int, edit: Edit, nodes: Tensor | None, where: Tensor | None) -> Writer:
        lookup = edit.replacement.lookup
        if lookup is not None:
            lookup.values(edit.component, edit.layer)  # where they are made by running the model, not amid a pass

        def write(x: Tensor) -> None:
            # (runs, nodes, units, width): this intervention's copy, and the unit where one is named
            mine = x[run] if edit.unit is None else x[run, :, edit.unit]
            source = self._get(edit, nodes)  # not before: all writers of a pass together would hold a lot
            if where is None:
                mine.copy_(edit.replacement.value(mine, source, edit))
            else:
                at = where.to(x.device)
                mine[at] = edit.replacement.value(mine[at], source, edit)

        return write

    def edited(self, edit: Edit) -> Tensor | None:
        """(k,) the nodes that an edit writes to, ascending; None for all."""
        nodes = self._selected(edit.positions)
        return nodes if edit.replacement.sources is None else self._limit(edit, nodes)

    def _selected(self, spec: PositionSpec) -> Tensor | None:
        if spec not in self.selected:
            self.selected[spec] = self.batch.select(self.prompts, spec)
        return self.selected[spec]

    def _limit(self, edit: Edit, nodes: Tensor | None) -> Tensor | None:
        """The nodes that have a counterpart in the source run; a token without one keeps its own value."""
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
        sources = {
            ids: source
            for source, ids in enumerate(source_prompts((replacement for replacement, _ in wanted.values()), self.batch))
        }
        prompts = {source: Prompt(ids, (0,), (0,), {}, f"source {source}") for ids, source in sources.items()}
        items = [type(s)(source, s.ids, s.reads) for source, prompt in prompts.items() for s in sequences([prompt], full=False)]
        places = sorted(set().union(*(places for _, places in wanted.values())))
        at: dict[Place, list[Tensor]] = {place: [] for place in places}
        nodes_of, start = {}, 0
        for run in build_batches(items, lambda _e, _p: None, max_nodes=SOURCE_NODES, shared=True, limits=passes.network.trees):
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
            of_example = {e: nodes_of[sources[replacement.sources[e]]] for e in self.batch.examples}
            self.index[key] = _alignment(of_example, self.batch, self.prompts, replacement)

    def _run_edited(self, passes: Passes, wanted: Wanted, capacity: int) -> None:
        """The edited runs of one network on one set of source prompts, each a run of its own."""
        first = next(iter(wanted.values()))[0]
        sources, passes = first.sources, passes.of(first.network)
        assert sources is not None
        start = 0
        parts: dict[tuple[int, Place], list[Tensor]] = {}
        nodes_of: dict[int, list[int]] = {}
        for run in _lay_out(passes, sources, self.prompts, self.batch):
            own = {e: Prompt(sources[e], (0,), (0,), self.prompts[e].marks, self.prompts[e].name) for e in run.examples}
            for key, place, values in _edited_runs(passes, run, own, wanted, capacity):
                parts.setdefault((key, place), []).append(values)
            for sequence, nodes in zip(run.sequences, run.nodes, strict=True):
                nodes_of[sequence.example] = [start + node for node in nodes]
            start += run.n_nodes
        self.edited_runs |= {of: torch.cat(values) for of, values in parts.items()}
        for key, (replacement, _) in wanted.items():
            self.index[key] = _alignment(nodes_of, self.batch, self.prompts, replacement)

    def _get(self, edit: Edit, nodes: Tensor | None) -> Tensor | None:
        """(k, width) or (k, units, width): the source's values where the edit writes."""
        if edit.keys is not None:
            return self._scores_of(edit.keys, nodes)
        if edit.replacement.lookup is not None:
            return self._look_up(edit, edit.replacement.lookup, nodes)
        if edit.replacement.sources is None:
            return None
        key, place = id(edit.replacement), (edit.component, edit.layer)
        plain = edit.replacement.within is None
        whole = self.plain[id(edit.replacement.network), place] if plain else self.edited_runs[key, place]
        index = (self.index[key] if nodes is None else self.index[key][nodes]).to(whole.device)
        return whole[index] if edit.unit is None else whole[index, edit.unit]

    def _scores_of(self, keys: PositionSpec, nodes: Tensor | None) -> Tensor:
        """(k, 1, width) bool: which scores of these nodes are meant."""
        if keys not in self.keys:
            self.keys[keys] = self.batch.keys(self.prompts, keys)
        meant = self.keys[keys]
        return (meant if nodes is None else meant[nodes])[:, None]

    def _look_up(self, edit: Edit, lookup: Lookup, nodes: Tensor | None) -> Tensor:
        rows = self.rows.get(id(lookup))
        if rows is None:
            owners = self.batch.owners()
            of_node = [lookup.row(*owners[node]) for node in range(len(owners))]
            rows = self.rows[id(lookup)] = torch.tensor(of_node, dtype=torch.long)
        table = lookup.values(edit.component, edit.layer)
        table = table if edit.unit is None else table[:, edit.unit]
        return table[(rows if nodes is None else rows[nodes]).to(table.device)]


def _edited_runs(
    passes: Passes, run: Batch, own: dict[int, Prompt], wanted: Wanted, capacity: int
) -> Iterator[tuple[int, Place, Tensor]]:
    """For each replacement whose source run is edited, and each place it is asked for, (run nodes, units, width)."""
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


def _lay_out(passes: Passes, sources: Sequence[Ids], prompts: Prompts, batch: Batch) -> list[Batch]:
    """The source prompts of a batch's examples, one for each, in as few passes as the model computes exactly."""
    chosen = {e: Prompt(sources[e], (0,), (0,), {}, prompts[e].name) for e in batch.examples}
    items = [s for e in batch.examples for s in sequences([chosen[e]], full=False)]
    items = [type(s)(e, s.ids, s.reads) for e, s in zip(batch.examples, items, strict=True)]
    limits = passes.network.trees
    return build_batches(items, lambda e, _: e, max_nodes=10**9, shared=True, limits=limits)


def _alignment(nodes_of: dict[int, list[int]], batch: Batch, prompts: Prompts, replacement: Replacement) -> Tensor:
    """For each node of `batch` its node in the source runs (-1 where none)."""
    index = torch.full((batch.n_nodes,), -1)
    for node, (example, position) in batch.owners().items():
        source = nodes_of[example]
        aligned = replacement.source_position(position, len(prompts[example].ids), len(source))
        if aligned is not None:
            index[node] = source[aligned]
    return index
