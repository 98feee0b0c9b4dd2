"""The plain reference: one prompt at a time through the bare Hugging Face model.

Slow and obvious on purpose. It shares no code with the executor but the definition of a replacement, so that the executor can
be held against it: other hooks, found by other means (see `bare.model`), no padding, no masks of its own, no skipped blocks, no
shared prefixes. The interventions on a prompt are copies of it below each other in one pass; copies do not see each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tiny_ablation.engine.bare.model import Bare, Pass, Place, Tap, Values
from tiny_ablation.engine.decoding import Decoding, Pen
from tiny_ablation.engine.edits import Edit, Ids, Intervention
from tiny_ablation.engine.prompts import Prompt, TokenSequence, sequences
from tiny_ablation.metrics.readout import Metric, Readout, Reads, token_sets
from tiny_ablation.models.placed import is_placed

# Tokens of one forward pass: its logits, tokens x vocabulary, are the largest thing that is held.
MAX_TOKENS = 512
FEW_TOKENS = 96  # where the model is larger than the memory


@dataclass(frozen=True)
class Cell:
    """One intervention on one example."""

    values: dict[str, float]  # each metric
    # by how many logits the most probable token leads, at the read where it leads least, with the intervention or without it.
    # What counts right answers may go either way where it is within rounding.
    margin: float
    # by how much of the size of its logits a router's last chosen expert leads the next, where it leads least, with the
    # intervention or without it; infinity for a model without experts
    router: float = float("inf")


class _Made(NamedTuple):
    """An edit of one copy of a prompt: at which positions, and the source run's values there, if it has a source."""

    row: int
    edit: Edit
    at: list[int]
    source: Float[Tensor, "k *units width"] | Bool[Tensor, "k 1 tokens"] | None


@dataclass
class Reference:
    """Computes interventions on one prompt."""

    model: Bare
    prompts: Sequence[Prompt]  # all prompts; results are asked for by index
    metrics: Sequence[Metric]  # what is measured
    full: bool = False  # score whole answers
    base_intervention: Intervention | None = None  # made in every run, the baseline included
    decoding: Decoding | None = None  # how text is written, where metrics are of text
    # the bare models of the networks that replacements name, by the identity of the network
    others: Mapping[int, Bare] = field(default_factory=dict)

    def values(self, intervention: Intervention | None, example: int) -> dict[str, float]:
        """Each metric of one example under one intervention; None is the baseline."""
        return self.cells([intervention], example)[0].values

    @torch.no_grad()
    def cells(self, interventions: Sequence[Intervention | None], example: int) -> list[Cell]:
        """One example under each intervention; None is the baseline, which is run once for all of them, beside the first."""
        if self.decoding is not None:
            return self._cells_of_text(self.decoding, interventions, example)
        strands = [TokenSequence(example, s.ids, s.reads) for s in sequences([self.prompts[example]], full=self.full)]
        asked_at, column = [read for s in strands for read in s.reads], partial(torch.tensor, device=self.model.device)
        reads = Reads(
            tokens=token_sets([read.tokens for read in asked_at]).to(self.model.device),
            example=column([0] * len(asked_at)),
            is_foil=column([read.is_foil for read in asked_at]),
            foils=token_sets([read.foils for read in asked_at]).to(self.model.device),
            n_examples=1,
        )
        if list(interventions) == [None]:
            base = self._run(strands, [None])
            return list(self._cells(base, base, reads))
        asked = [None, *interventions]
        step = max(2, self._max_tokens // max(len(s.ids) for s in strands))
        first = self._run(strands, asked[:step])
        base = Pass(first.logits[:1], first.router[:1])
        out = list(self._cells(Pass(first.logits[1:], first.router[1:]), base, reads))
        for start in range(step, len(asked), step):
            out += self._cells(self._run(strands, asked[start : start + step]), base, reads)
        return out

    def _cells_of_text(self, decoding: Decoding, interventions: Sequence[Intervention | None], example: int) -> list[Cell]:
        """As `cells`, of what is written: a pass over the whole text for each token, of runs that wrote the same so far."""
        runs = [None, *interventions]
        pens = [Pen(decoding, example, self.prompts[example], "reference") for _ in runs]
        margins, routers = [float("inf")] * len(runs), [float("inf")] * len(runs)
        while going := [run for run, pen in enumerate(pens) if pen.open]:
            same = [run for run in going if pens[run].ids == pens[going[0]].ids]
            same = same[: max(1, self._max_tokens // len(pens[same[0]].sequence.ids))]
            passed = self._run_one(pens[same[0]].sequence, [runs[run] for run in same])
            for run, logits, router in zip(same, passed.logits[:, 0], passed.router.tolist(), strict=True):
                best = pens[run].write(logits).topk(2).values.tolist()
                margins[run], routers[run] = min(margins[run], best[0] - best[1]), min(routers[run], router)
        base, edited = decoding.written([pens[:1]]), decoding.written([[pen] for pen in pens[1:]])
        values = {metric.name: metric.compute(edited, base)[:, 0].tolist() for metric in self.metrics}
        out = []
        for i, (margin, router) in enumerate(zip(margins[1:], routers[1:], strict=True)):
            of_run = {name: column[i] for name, column in values.items()}
            out.append(Cell(of_run, min(margins[0], margin), min(routers[0], router)))
        return out

    @property
    def _max_tokens(self) -> int:
        return FEW_TOKENS if is_placed(self.model.hf) else MAX_TOKENS

    def _cells(self, out: Pass, base_out: Pass, reads: Reads) -> Iterator[Cell]:
        run, base = Readout(out.logits, reads), Readout(base_out.logits, reads)
        values = {metric.name: metric.compute(run, base)[:, 0].tolist() for metric in self.metrics}
        margins = torch.minimum(_margin(run), _margin(base)).tolist()
        routers = torch.minimum(out.router, base_out.router).tolist()
        for i, (margin, router) in enumerate(zip(margins, routers, strict=True)):
            yield Cell({name: column[i] for name, column in values.items()}, margin, router)

    def _run(self, strands: Sequence[TokenSequence], runs: Sequence[Intervention | None]) -> Pass:
        outs = [self._run_one(strand, runs) for strand in strands]
        return Pass(torch.cat([o.logits for o in outs], 1), torch.stack([o.router for o in outs]).amin(0))

    def _run_one(self, strand: TokenSequence, runs: Sequence[Intervention | None]) -> Pass:
        """One token sequence, a copy a run."""
        always = self.base_intervention.edits if self.base_intervention else ()
        asked = [(row, edit) for row, run in enumerate(runs) for edit in (*always, *(run.edits if run else ()))]
        passed = self.model.run(strand.ids, len(runs), self._taps(strand, asked, self.model))
        return Pass(passed.logits[:, [read.position for read in strand.reads]], passed.router)

    def _taps(self, strand: TokenSequence, asked: Sequence[tuple[int, Edit]], model: Bare) -> dict[Place, Tap]:
        """What makes edits of copies of a sequence in a run of `model`, place by place."""
        seen = self._source_runs(strand.example, [edit for _, edit in asked], model)
        by_place: dict[Place, list[_Made]] = {}
        for row, edit in asked:
            by_place.setdefault((edit.component, edit.layer), []).append(self._made(row, edit, strand, seen))
        return {place: partial(_write, of_place) for place, of_place in by_place.items()}

    def _made(self, row: int, edit: Edit, strand: TokenSequence, seen: "SourceRuns") -> _Made:
        prompt, length = self.prompts[strand.example], len(strand.ids)
        there = {p: self._aligned(edit, strand.example, p) for p in range(length) if prompt.covers(edit.positions, p)}
        at = [p for p, source in there.items() if source is not None]
        lookup = edit.replacement.lookup
        if edit.keys is not None:  # which scores an edit of the queries at these positions means
            meant = [[[k < q and prompt.covers(edit.keys, k) for k in range(length)]] for q in at]
            return _Made(
                row, edit, at, torch.tensor(meant, dtype=torch.bool, device=self.model.device).view(len(at), 1, length)
            )
        if lookup is not None:
            rows = lookup.values(edit.component, edit.layer)[[lookup.row(strand.example, p) for p in at]]
            source = rows.to(self.model.device)
        elif edit.replacement.sources is None:
            return _Made(row, edit, at, None)
        else:
            source = seen[_source_key(edit, strand.example)][edit.component, edit.layer][[there[p] for p in at]]
        return _Made(row, edit, at, source if edit.unit is None else source[:, edit.unit])

    def _source_runs(self, example: int, edits: Sequence[Edit], own: Bare) -> "SourceRuns":
        """What stands at the places of `edits` of runs of `own` in the runs whose values they put in, each made once."""
        wanted: dict[SourceKey, set[Place]] = {}
        for edit in edits:
            if edit.replacement.sources is not None:
                wanted.setdefault(_source_key(edit, example), set()).add((edit.component, edit.layer))
        found = {}
        for (ids, within, network), places in wanted.items():
            model = own if network is None else self.others[network]
            taps = self._taps(TokenSequence(example, ids, ()), [(0, edit) for edit in within.edits] if within else [], model)
            seen: dict[Place, Tensor] = {}
            for place in sorted(places):
                taps[place] = partial(_keep, seen, place, taps.get(place))
            model.run(ids, 1, taps)
            found[ids, within, network] = seen
        return found

    def _aligned(self, edit: Edit, example: int, position: int) -> int | None:
        """The source run's position for `position`; a token without one keeps its own value."""
        if edit.replacement.sources is None:
            return position
        source = edit.replacement.sources[example]
        return edit.replacement.source_position(position, len(self.prompts[example].ids), len(source))


# The tokens of a source run, what is done to it, and the identity of the network that makes it (None: the run's own).
SourceKey = tuple[Ids, Intervention | None, int | None]
SourceRuns = Mapping[SourceKey, Mapping[Place, Float[Tensor, "tokens units width"]]]  # what stands at each place


def _source_key(edit: Edit, example: int) -> SourceKey:
    replacement = edit.replacement
    assert replacement.sources is not None
    network = None if replacement.network is None else id(replacement.network)
    return replacement.sources[example], replacement.within, network


def _write(made: Sequence[_Made], x: Values) -> Values:
    """The values of a place with its edits made, in their order."""
    new = x.clone()
    for row, edit, at, source in made:
        mine = new[row] if edit.unit is None else new[row, :, edit.unit]
        mine[at] = edit.replacement.value(mine[at], source, edit).to(mine)
    return new


def _keep(into: dict[Place, Tensor], place: Place, tap: Tap | None, x: Values) -> Values | None:
    """Keep what stands at a place of the one row, after what is done there."""
    new = tap(x) if tap else None
    into[place] = (x if new is None else new)[0].clone()
    return new


def _margin(readout: Readout) -> Float[Tensor, "runs"]:
    """The lead of the most probable token, at the read where it is smallest."""
    best = readout.logits.topk(2).values
    return (best[..., 0] - best[..., 1]).amin(-1)
