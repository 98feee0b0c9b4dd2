"""The plain reference: one prompt at a time through the bare Hugging Face model.

Slow and obvious on purpose. It shares no code with the executor but the definition of a replacement, so that the executor can
be held against it: other hooks, found by other means (see `bare.model`), no padding, no masks of its own, no skipped blocks, no
shared prefixes. The interventions on a prompt are copies of it below each other in one pass; copies do not see each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiny_ablation.engine.bare.model import Bare, Place, Tap
from tiny_ablation.engine.decoding import Decoding, Pen
from tiny_ablation.engine.edits import Edit, Ids, Intervention, PositionSpec
from tiny_ablation.engine.prompts import Prompt, TokenSequence, sequences
from tiny_ablation.metrics.readout import Metric, Readout, Reads, token_sets
from tiny_ablation.models.placed import is_placed

# Tokens of one forward pass: its logits, tokens x vocabulary, are the largest thing that is held.
MAX_TOKENS = 512
FEW_TOKENS = 96  # where the model is larger than the memory


@dataclass(frozen=True)
class Cell:
    """One intervention on one example.

    Attributes:
        values: each metric.
        margin: by how many logits the most probable token leads, at the read where it leads least, with the intervention or
            without it. What counts right answers may go either way where it is within rounding.
        router: by how much of the size of its logits a router's last chosen expert leads the next, where it leads least, with
            the intervention or without it; infinity for a model without experts.
    """

    values: dict[str, float]
    margin: float
    router: float = float("inf")


class _Made(NamedTuple):
    """An edit of one copy of a prompt: at which positions, and the source run's values there, if it has a source."""

    row: int
    edit: Edit
    at: list[int]
    source: Tensor | None


class _Out(NamedTuple):
    """Logits (runs, n_reads, d_vocab) and the margins (runs,) of the routers."""

    logits: Tensor
    router: Tensor


@dataclass
class Reference:
    """Computes interventions on one prompt.

    Attributes:
        model: the model.
        prompts: all prompts; results are asked for by index.
        metrics: what is measured.
        full: score whole answers.
        base_intervention: made in every run, the baseline included.
        decoding: how text is written, where metrics are of text.
        others: the bare models of the networks that replacements name, by the identity of the network.
    """

    model: Bare
    prompts: Sequence[Prompt]
    metrics: Sequence[Metric]
    full: bool = False
    base_intervention: Intervention | None = None
    decoding: Decoding | None = None
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
        reads = _reads([read for s in strands for read in s.reads], str(self.model.device))
        if list(interventions) == [None]:
            base = self._run(strands, [None])
            return list(self._cells(base, base, reads))
        asked = [None, *interventions]
        step = max(2, self._max_tokens // max(len(s.ids) for s in strands))
        first = self._run(strands, asked[:step])
        base = _Out(first.logits[:1], first.router[:1])
        out = list(self._cells(_Out(first.logits[1:], first.router[1:]), base, reads))
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
            out = self._run_one(pens[same[0]].sequence, [runs[run] for run in same])
            for run, logits, router in zip(same, out.logits[:, 0], out.router.tolist(), strict=True):
                best = pens[run].write(logits).topk(2).values.tolist()
                margins[run], routers[run] = min(margins[run], best[0] - best[1]), min(routers[run], router)
        base, edited = decoding.written([pens[:1]]), decoding.written([[pen] for pen in pens[1:]])
        values = {metric.name: metric.compute(edited, base)[:, 0].tolist() for metric in self.metrics}
        return [
            Cell(
                {name: column[i] for name, column in values.items()},
                min(margins[0], margins[i + 1]),
                min(routers[0], routers[i + 1]),
            )
            for i in range(len(interventions))
        ]

    @property
    def _max_tokens(self) -> int:
        return FEW_TOKENS if is_placed(self.model.hf) else MAX_TOKENS

    def _cells(self, out: _Out, base_out: _Out, reads: Reads) -> Iterator[Cell]:
        run, base = Readout(out.logits, reads), Readout(base_out.logits, reads)
        values = {metric.name: metric.compute(run, base)[:, 0].tolist() for metric in self.metrics}
        margins = torch.minimum(_margin(run), _margin(base)).tolist()
        routers = torch.minimum(out.router, base_out.router).tolist()
        for i, (margin, router) in enumerate(zip(margins, routers, strict=True)):
            yield Cell({name: column[i] for name, column in values.items()}, margin, router)

    def _run(self, strands: Sequence[TokenSequence], runs: Sequence[Intervention | None]) -> _Out:
        outs = [self._run_one(strand, runs) for strand in strands]
        return _Out(torch.cat([o.logits for o in outs], 1), torch.stack([o.router for o in outs]).amin(0))

    def _run_one(self, strand: TokenSequence, runs: Sequence[Intervention | None]) -> _Out:
        """One token sequence, a copy a run."""
        asked = [
            (row, edit)
            for row, run in enumerate(runs)
            for intervention in (self.base_intervention, run)
            if intervention is not None
            for edit in intervention.edits
        ]
        seen = self._source_runs(strand.example, [edit for _, edit in asked], self.model)
        taps = _taps([self._made(row, edit, strand, seen) for row, edit in asked])
        passed = self.model.run(strand.ids, len(runs), taps)
        return _Out(passed.logits[:, [read.position for read in strand.reads]], passed.router)

    def _made(self, row: int, edit: Edit, strand: TokenSequence, seen: "SourceRuns") -> _Made:
        prompt = self.prompts[strand.example]
        at = [
            p for p in range(len(strand.ids)) if prompt.covers(edit.positions, p) and self._aligned(edit, strand, p) is not None
        ]
        if edit.keys is not None:
            return _Made(row, edit, at, self._meant(prompt, edit.keys, at, len(strand.ids)))
        return _Made(row, edit, at, self._source(edit, strand.example, at, seen))

    def _meant(self, prompt: Prompt, keys: PositionSpec, at: list[int], length: int) -> Tensor:
        """(len(at), 1, length) bool: which scores an edit of the queries at these positions means."""
        meant = [[[k < q and prompt.covers(keys, k) for k in range(length)]] for q in at]
        return torch.tensor(meant, dtype=torch.bool, device=self.model.device).view(len(at), 1, length)

    def _source(self, edit: Edit, example: int, at: list[int], seen: "SourceRuns") -> Tensor | None:
        """(len(at), width) or (len(at), units, width): the source run's values at the positions that are written."""
        lookup = edit.replacement.lookup
        if lookup is not None:
            rows = lookup.values(edit.component, edit.layer)[[lookup.row(example, p) for p in at]]
            rows = rows.to(self.model.device)
            return rows if edit.unit is None else rows[:, edit.unit]
        if edit.replacement.sources is None:
            return None
        strand = TokenSequence(example, self.prompts[example].ids, ())
        values = seen[_source_key(edit, example)][edit.component, edit.layer]
        whole = values[[self._aligned(edit, strand, p) for p in at]]
        return whole if edit.unit is None else whole[:, edit.unit]

    def _source_runs(self, example: int, edits: Sequence[Edit], own: Bare) -> "SourceRuns":
        """What stands at the places of `edits` of runs of `own` in the runs whose values they put in, each made once."""
        wanted: dict[SourceKey, set[Place]] = {}
        for edit in edits:
            if edit.replacement.sources is not None:
                wanted.setdefault(_source_key(edit, example), set()).add((edit.component, edit.layer))
        return {
            (ids, within, network): self._captured(
                example, ids, within, places, own if network is None else self.others[network]
            )
            for (ids, within, network), places in wanted.items()
        }

    def _captured(
        self, example: int, ids: Ids, within: Intervention | None, places: set[Place], model: Bare
    ) -> dict[Place, Tensor]:
        inner = within.edits if within else ()
        sources = self._source_runs(example, inner, model)
        strand = TokenSequence(example, ids, ())
        taps = _taps([self._made(0, edit, strand, sources) for edit in inner])
        seen: dict[Place, Tensor] = {}
        for place in sorted(places):
            taps[place] = partial(_keep, seen, place, taps.get(place))
        model.run(ids, 1, taps)
        return seen

    def _aligned(self, edit: Edit, strand: TokenSequence, position: int) -> int | None:
        """The source run's position for `position`; a token without one keeps its own value."""
        if edit.replacement.sources is None:
            return position
        source = edit.replacement.sources[strand.example]
        return edit.replacement.source_position(position, len(self.prompts[strand.example].ids), len(source))


# The tokens of a source run, what is done to it, and the identity of the network that makes it (None: the run's own).
SourceKey = tuple[Ids, Intervention | None, int | None]
SourceRuns = Mapping[SourceKey, Mapping[Place, Tensor]]  # what stands at each place, (tokens, units, width)


def _source_key(edit: Edit, example: int) -> SourceKey:
    replacement = edit.replacement
    assert replacement.sources is not None
    network = None if replacement.network is None else id(replacement.network)
    return replacement.sources[example], replacement.within, network


def _taps(made: Sequence[_Made]) -> dict[Place, Tap]:
    """What writes all edits, place by place."""
    by_place: dict[Place, list[_Made]] = {}
    for one in made:
        by_place.setdefault((one.edit.component, one.edit.layer), []).append(one)
    return {place: partial(_write, of_place) for place, of_place in by_place.items()}


def _write(made: Sequence[_Made], x: Tensor) -> Tensor:
    """The values (rows, tokens, units, width) of a place with its edits made, in their order."""
    new = x.clone()
    for row, edit, at, source in made:
        mine = new[row] if edit.unit is None else new[row, :, edit.unit]
        mine[at] = edit.replacement.value(mine[at], source, edit).to(mine)
    return new


def _keep(into: dict[Place, Tensor], place: Place, tap: Tap | None, x: Tensor) -> Tensor | None:
    """Keep what stands at a place of the one row, after what is done there."""
    new = tap(x) if tap else None
    into[place] = (x if new is None else new)[0].clone()
    return new


def _margin(readout: Readout) -> Tensor:
    """(runs,): the lead of the most probable token, at the read where it is smallest."""
    best = readout.logits.topk(2).values
    return (best[..., 0] - best[..., 1]).amin(-1)


def _reads(reads: list[Any], device: str) -> Reads:
    column = partial(torch.tensor, device=device)
    return Reads(
        tokens=token_sets([r.tokens for r in reads]).to(device),
        example=column([0] * len(reads)),
        is_foil=column([r.is_foil for r in reads]),
        foils=token_sets([r.foils for r in reads]).to(device),
        n_examples=1,
    )
