"""Continuations that the model writes under interventions that stay on (`metrics.span=text`).

An intervention means the same at every token that is written as it does at those of a teacher-forced answer: `all` and
`after_first` go on, everything else is in the prompt, and so is whatever comes from another run; a mean by position has
none for new tokens and is refused when the run is planned.

Keys and values of earlier tokens are kept where that is exact: they are what the intervention made them, since a causal model
computes nothing anew for a token that is written already. Prompts of one length stand below each other with all interventions,
unpadded, and a step computes one token each. Whether the model computes this as it computes whole texts is tried first
(`models.continuing`). Where it does not, and for edited attention scores, each token takes a pass over the whole text.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tiny_ablation.engine.decoding import Decoding, Pen
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.forward import Cache, Place, Values, Writer
from tiny_ablation.engine.layout import Batch, build_batches, tagger
from tiny_ablation.engine.results import BatchResult
from tiny_ablation.errors import is_out_of_memory
from tiny_ablation.metrics.readout import Readout
from tiny_ablation.models.continuing import continued, fault_of_continuing
from tiny_ablation.store.runlog import log


@dataclass
class Generation(Executor):
    """Works one plan through on one set of prompts; metrics are of what is written."""

    decoding: Decoding = field(kw_only=True)  # how it is written

    @cached_property
    def keeps(self) -> bool:
        """Whether keys and values of earlier tokens are kept: no scores are edited, and the model computes it exactly."""
        if any(edit.keys is not None for run in self.plan for edit in run.edits):
            return False
        lengths, new = [len(prompt.ids) for prompt in self.prompts], self.decoding.max_new_tokens
        return new == 1 or fault_of_continuing(self.network, min(lengths), max(lengths) + new - 1) is None

    def _results(
        self,
        batch: Batch,
        cache: Cache,  # noqa: ARG002
        base: Readout,  # noqa: ARG002
        tick: Callable[[int], object],
    ) -> BatchResult:
        always = self.base_intervention.edits if self.base_intervention else ()
        runs = [Intervention((*always, *run.edits)) for run in (Intervention(()), *self.plan)]
        pens: list[list[Pen]] = []
        while len(pens) < len(runs):
            tokens = len(batch.examples) * (batch.longest + self.decoding.max_new_tokens)
            chunk = runs[len(pens) : len(pens) + max(1, self._capacity // tokens)]
            try:
                pens += self._written(batch.examples, chunk)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or len(chunk) == 1:
                    raise
                self._capacity = tokens * max(1, len(chunk) // 2)
                log.warning("memory ran out; going on with %d tokens in one forward pass", self._capacity)
                continue
            tick(len(batch.examples) * (len(chunk) - (chunk[0] is runs[0])))
        before, edited = self.decoding.written(pens[:1]), self.decoding.written(pens)
        values = {m.name: m.compute(edited, before).double() for m in self.metrics}
        ids = torch.full((self.decoding.max_new_tokens, len(pens), len(batch.examples)), -1)
        for run, row in enumerate(pens):
            for place, pen in enumerate(row):
                ids[: len(pen.ids), run, place] = torch.tensor(pen.ids)
        first = torch.tensor([[pen.first for pen in row] for row in pens])
        return BatchResult(
            batch.examples,
            {name: of_runs[1:] for name, of_runs in values.items()},
            {name: of_runs[0] for name, of_runs in values.items()},
            first[1:],
            first[0],
            {"written": ids[:, 1:], "written_baseline": ids[:, 0]},
        )

    def _written(self, examples: Sequence[int], runs: Sequence[Intervention]) -> list[list[Pen]]:
        """(runs, examples), each with its whole continuation."""
        pens = [
            [Pen(self.decoding, e, self.prompts[e], run.label or "the un-intervened model") for e in examples] for run in runs
        ]
        if not self.keeps:
            for run, row in zip(runs, pens, strict=True):
                self._write_anew(run, row)
            return pens
        lengths: dict[int, list[int]] = {}
        for place, example in enumerate(examples):
            lengths.setdefault(len(self.prompts[example].ids), []).append(place)
        for places in lengths.values():
            self._write_on(runs, [[row[place] for place in places] for row in pens])
        return pens

    def _write_anew(self, run: Intervention, pens: Sequence[Pen]) -> None:
        """A pass over the whole text for each token."""
        of_example = {pen.example: pen for pen in pens}
        while going := [pen.sequence for pen in pens if pen.open]:
            for batch in build_batches(
                going,
                tagger(self.prompts, [run]),
                max_nodes=self._max_nodes,
                shared=self.uses_prefix_tree,
                limits=self.network.trees,
            ):
                writers = self._sources(batch, [run]).writers([run])
                logits = self._passes.clean(batch, writers=writers).logits
                for example, each in zip(batch.examples, logits, strict=True):
                    of_example[example].write(each)

    def _write_on(self, runs: Sequence[Intervention], pens: Sequence[Sequence[Pen]]) -> None:
        """All runs of prompts of one length at once, a token each at a time."""
        # The example as a tag, so that every one has a row of its own.
        [batch] = build_batches([pen.sequence for pen in pens[0]], lambda example, _: example, max_nodes=10**9, shared=False)
        flat = [pen for row in pens for pen in row]
        ids, past = batch.ids.repeat(len(runs), 1), None
        writers = self._sources(batch, runs).writers(runs)
        for step in count():
            with ExitStack() as stack:
                self._passes.attach(stack, writers, len(runs))
                logits, past = continued(self.network, ids, past)
            for pen, each in zip(flat, logits.cpu(), strict=True):
                if pen.open:
                    pen.write(each)
            if not any(pen.open for pen in flat):
                return
            writers = self._later(runs, pens[0], batch.ids.shape[1] + step)
            ids = torch.tensor([[pen.ids[-1]] for pen in flat])

    def _later(self, runs: Sequence[Intervention], pens: Sequence[Pen], position: int) -> dict[Place, list[Writer]]:
        """What makes the edits at a token behind the prompts; values of other runs have none there."""
        writers: dict[Place, list[Writer]] = {}
        for number, run in enumerate(runs):
            for edit in run.edits:
                at = [i for i, pen in enumerate(pens) if pen.prompt.covers(edit.positions, position)]
                if not at or edit.replacement.sources is not None:
                    continue
                rows, lookup = None, edit.replacement.lookup
                if lookup is not None:
                    table = lookup.values(edit.component, edit.layer)
                    table = table if edit.unit is None else table[:, edit.unit]
                    rows = table[[lookup.row(pens[i].example, position) for i in at]]
                writers.setdefault((edit.component, edit.layer), []).append(partial(_write, number, edit, at, rows))
        return writers


def _write(number: int, edit: Edit, at: list[int], rows: Float[Tensor, "k *one_unit width"] | None, x: Values) -> None:
    """Make an edit in run `number`, whose nodes are one token of each example."""
    mine: Any = x[number] if edit.unit is None else x[number, :, edit.unit]
    mine[at] = edit.replacement.value(mine[at], rows, edit)
