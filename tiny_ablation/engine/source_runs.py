"""The values that are put in: where they come from, aligned with the tokens of a batch.

They come from other runs (patching, resampling), from an edited run of the prompt itself (path patching), or from tables that
stand ready (means, noise). Costs one clean pass a distinct source run and batch, and for edited source runs one pass more each,
from the block of their first edit on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tiny_ablation.engine.edits import Edit, Ids, Intervention, Lookup, PositionSpec, Replacement
from tiny_ablation.engine.forward import Cache, Passes, Place, Writer
from tiny_ablation.engine.layout import Batch, Limits, build_batches
from tiny_ablation.engine.prompts import Prompt, Prompts, sequences

Wanted = dict[int, tuple[Replacement, set[Place]]]  # by the identity of the replacement


@dataclass
class Sources:
    """Values of source runs, and of tables that stand ready, at the nodes of a batch.

    Attributes:
        prompts: the prompts of the batch's examples, by example.
        batch: the batch.
        values: for each replacement (by identity) and place (nodes, units, width).
        aligned: for each replacement the nodes that have a counterpart in its source run.
        rows: for each table the row of each node.
        selected: for each choice of positions its nodes, as `Batch.select` gives them.
    """

    prompts: Prompts
    batch: Batch
    values: dict[tuple[int, Place], Tensor] = field(default_factory=dict)
    aligned: dict[int, Tensor] = field(default_factory=dict)
    rows: dict[int, Tensor] = field(default_factory=dict)
    selected: dict[PositionSpec, Tensor | None] = field(default_factory=dict)

    @classmethod
    def collect(
        cls, passes: Passes, prompts: Prompts, batch: Batch, plan: Sequence[Intervention], capacity: int
    ) -> "Sources":
        """Run the sources of all edits of `plan` once each, `capacity` tokens in one pass where several are run together."""
        out = cls(prompts, batch)
        by_source: dict[int, Wanted] = {}
        for edit in (edit for intervention in plan for edit in intervention.edits):
            replacement = edit.replacement
            if replacement.sources is not None:
                of_source = by_source.setdefault(id(replacement.sources), {})
                of_source.setdefault(id(replacement), (replacement, set()))[1].add(
                    (edit.component, edit.layer)
                )
        for wanted in by_source.values():
            out._run(passes, wanted, capacity)
        return out

    def writers(
        self, interventions: Sequence[Intervention], only: Tensor | None = None
    ) -> dict[Place, list[Writer]]:
        """What makes the edits of copy 0, 1, ... of the batch.

        Args:
            interventions: one a copy.
            only: (k,) the nodes that the copies have, ascending; None for all.
        """
        writers: dict[Place, list[Writer]] = {}
        for run, intervention in enumerate(interventions):
            for edit in intervention.edits:
                nodes = self.edited(edit)
                source = self._get(edit, nodes)
                where = nodes if only is None or nodes is None else torch.searchsorted(only, nodes)
                writers.setdefault((edit.component, edit.layer), []).append(_writer(run, edit, where, source))
        return writers

    def edited(self, edit: Edit) -> Tensor | None:
        """(k,) the nodes that an edit writes to, ascending; None for all."""
        return self._limit(edit, self._selected(edit.positions))

    def _selected(self, spec: PositionSpec) -> Tensor | None:
        if spec not in self.selected:
            self.selected[spec] = self.batch.select(self.prompts, spec)
        return self.selected[spec]

    def _run(self, passes: Passes, wanted: Wanted, capacity: int) -> None:
        """The replacements of one set of source prompts, which are laid out and run once."""
        sources = next(iter(wanted.values()))[0].sources
        assert sources is not None
        plain = {
            place for replacement, places in wanted.values() if replacement.within is None for place in places
        }
        for run in _lay_out(sources, self.prompts, self.batch, passes.network.trees):
            cache = passes.clean(run, sorted(plain))
            edited = _edited_runs(passes, run, cache, sources, self, wanted, capacity)
            for key, (replacement, places) in wanted.items():
                index = _alignment(run, self.batch, self.prompts, replacement)
                here = (index >= 0).nonzero()[:, 0]
                self.aligned[key] = torch.cat([self.aligned.get(key, here[:0]), here]).sort().values
                for place in places:
                    at = cache.at[place] if replacement.within is None else edited[key, place]
                    if (key, place) not in self.values:
                        self.values[key, place] = at.new_zeros(len(index), *at.shape[1:])
                    self.values[key, place][here] = at[index[here].to(at.device)]

    def _limit(self, edit: Edit, nodes: Tensor | None) -> Tensor | None:
        """The nodes that have a counterpart in the source run; a token without one keeps its own value."""
        if edit.replacement.sources is None:
            return nodes
        aligned = self.aligned[id(edit.replacement)]
        return aligned if nodes is None else nodes[torch.isin(nodes, aligned)]

    def _get(self, edit: Edit, nodes: Tensor | None) -> Tensor | None:
        """(k, width) or (k, units, width): the source's values where the edit writes."""
        if edit.replacement.lookup is not None:
            return self._look_up(edit, edit.replacement.lookup, nodes)
        if edit.replacement.sources is None:
            return None
        whole = self.values[id(edit.replacement), (edit.component, edit.layer)]
        whole = whole if nodes is None else whole[nodes.to(whole.device)]
        return whole if edit.unit is None else whole[:, edit.unit]

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
    passes: Passes,
    run: Batch,
    cache: Cache,
    sources: Sequence[Ids],
    outer: Sources,
    wanted: Wanted,
    capacity: int,
) -> dict[tuple[int, Place], Tensor]:
    """(nodes, units, width) for each replacement whose source run is edited, and each place it is asked for."""
    entries = [(key, r.within, places) for key, (r, places) in wanted.items() if r.within is not None]
    entries.sort(key=lambda entry: entry[1].start)  # a chunk resumes at its first start
    own = {
        e: Prompt(sources[e], (0,), (0,), outer.prompts[e].marks, outer.prompts[e].name) for e in run.examples
    }
    inner = Sources.collect(passes, own, run, [within for _, within, _ in entries], capacity)
    step = max(1, capacity // run.n_nodes)
    out: dict[tuple[int, Place], Tensor] = {}
    for first in range(0, len(entries), step):
        chunk = entries[first : first + step]
        capture = sorted(set().union(*(places for _, _, places in chunk)))
        withins = [within for _, within, _ in chunk]
        at = passes.captured(run, cache, withins[0].start, inner.writers(withins), len(chunk), capture)
        out |= {(key, place): at[place][i] for i, (key, _, places) in enumerate(chunk) for place in places}
    return out


def _lay_out(sources: Sequence[Ids], prompts: Prompts, batch: Batch, limits: Limits) -> list[Batch]:
    """The source prompts of a batch's examples, in as few passes as the model computes exactly."""
    chosen = {e: Prompt(sources[e], (0,), (0,), {}, prompts[e].name) for e in batch.examples}
    items = [s for e in batch.examples for s in sequences([chosen[e]], full=False)]
    items = [type(s)(e, s.ids, s.reads) for e, s in zip(batch.examples, items, strict=True)]
    return build_batches(items, lambda e, _: e, max_nodes=10**9, shared=True, limits=limits)


def _alignment(run: Batch, batch: Batch, prompts: Prompts, replacement: Replacement) -> Tensor:
    """For each node of `batch` its node in `run` (-1 where none)."""
    node_of = {sequence.example: nodes for sequence, nodes in zip(run.sequences, run.nodes, strict=True)}
    index = torch.full((batch.n_nodes,), -1)
    for node, (example, position) in batch.owners().items():
        if example not in node_of:
            continue  # its source stands in another pass
        aligned = replacement.source_position(position, len(prompts[example].ids), len(node_of[example]))
        if aligned is not None:
            index[node] = node_of[example][aligned]
    return index


def _writer(run: int, edit: Edit, nodes: Tensor | None, source: Tensor | None) -> Writer:
    def write(x: Tensor) -> None:
        # (runs, nodes, units, width): this intervention's copy, and the unit where one is named
        mine = x[run] if edit.unit is None else x[run, :, edit.unit]
        if nodes is None:
            mine.copy_(edit.replacement.value(mine, source, edit))
        else:
            where = nodes.to(x.device)
            mine[where] = edit.replacement.value(mine[where], source, edit)

    return write
