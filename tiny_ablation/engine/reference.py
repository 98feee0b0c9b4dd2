"""The plain reference: one prompt at a time, `run_with_hooks` on TransformerLens' bridge.

Slow and obvious on purpose. It shares no code with the executor but the definition of a replacement, so that the executor can
be held against it: other hooks, another attention implementation, no padding, no masks, no skipped blocks, no shared prefixes.
The interventions on a prompt are copies of it below each other in one forward pass; copies do not see each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tiny_ablation.engine.edits import Edit, Ids, Intervention
from tiny_ablation.engine.prompts import Prompt, Strand, sequences
from tiny_ablation.errors import GuardError
from tiny_ablation.metrics.readout import Metric, Readout, Reads, token_sets
from tiny_ablation.models.network import Network

# Tokens of one forward pass: its logits, tokens x vocabulary, are the largest thing that is held.
MAX_TOKENS = 512

_HOOKS = {
    "z": "attn.hook_z", "q": "attn.hook_q", "k": "attn.hook_k", "v": "attn.hook_v",
    "attn_out": "hook_attn_out", "mlp_out": "hook_mlp_out", "resid_pre": "hook_resid_pre", "resid_post": "hook_resid_post",
    "neurons": "mlp.out.hook_in",
}  # fmt: skip
_BY_HEAD = ("z", "q", "k", "v")


@dataclass(frozen=True)
class Cell:
    """One intervention on one example.

    Attributes:
        values: each metric.
        margin: by how many logits the most probable token leads, at the read where it leads least, with the intervention or
            without it. What counts right answers may go either way where it is within rounding.
    """

    values: dict[str, float]
    margin: float


@dataclass
class Reference:
    """Computes interventions on one prompt.

    Attributes:
        network: the model.
        prompts: all prompts; results are asked for by index.
        metrics: what is measured.
        full: score whole answers.
        under: made in every run, the baseline included.
    """

    network: Network
    prompts: Sequence[Prompt]
    metrics: Sequence[Metric]
    full: bool = False
    under: Intervention | None = None

    def values(self, intervention: Intervention | None, example: int) -> dict[str, float]:
        """Each metric of one example under one intervention; None is the baseline."""
        return self.cells([intervention], example)[0].values

    @torch.no_grad()
    def cells(self, interventions: Sequence[Intervention | None], example: int) -> list[Cell]:
        """One example under each intervention; None is the baseline, which is run once for all of them, beside the first."""
        strands = [
            Strand(example, s.ids, s.reads) for s in sequences([self.prompts[example]], full=self.full)
        ]
        reads = _reads([read for s in strands for read in s.reads], self.network.device)
        if list(interventions) == [None]:
            base = Readout(self._logits(strands, [None]), reads)
            return list(self._cells(base, base))
        asked = [None, *interventions]
        step = max(2, MAX_TOKENS // max(len(s.ids) for s in strands))
        logits = self._logits(strands, asked[:step])
        base = Readout(logits[:1], reads)
        out = list(self._cells(Readout(logits[1:], reads), base))
        for first in range(step, len(asked), step):
            out += self._cells(Readout(self._logits(strands, asked[first : first + step]), reads), base)
        return out

    def _cells(self, run: Readout, base: Readout) -> Iterator[Cell]:
        values = {metric.name: metric.compute(run, base)[:, 0].tolist() for metric in self.metrics}
        margins = torch.minimum(_margin(run), _margin(base)).tolist()
        for i, margin in enumerate(margins):
            yield Cell({name: column[i] for name, column in values.items()}, margin)

    def _logits(self, strands: Sequence[Strand], runs: Sequence[Intervention | None]) -> Tensor:
        """(runs, n_reads, d_vocab)."""
        return torch.cat([self._logits_of(strand, runs) for strand in strands], 1)

    def _logits_of(self, strand: Strand, runs: Sequence[Intervention | None]) -> Tensor:
        """(runs, n_reads, d_vocab) of one token sequence, a copy a run."""
        tokens = torch.tensor([strand.ids], device=self.network.device).repeat(len(runs), 1)
        fired: list[str] = []
        made = [
            (row, edit)
            for row, run in enumerate(runs)
            for intervention in (self.under, run)
            if intervention is not None
            for edit in intervention.edits
        ]
        seen = self._source_runs(strand.example, [edit for _, edit in made])
        hooks: list[Any] = [self._hook(edit, strand, seen, fired, row) for row, edit in made]
        logits = self.network.run_with_hooks(tokens, hooks)
        if len(fired) != len(hooks):
            raise GuardError(f"reference: {len(hooks) - len(fired)} of {len(hooks)} hooks did not fire")
        return logits[:, [read.position for read in strand.reads]]

    def _hook(
        self, edit: Edit, strand: Strand, seen: "SourceRuns", fired: list[str], row: int
    ) -> tuple[str, Any]:
        prompt = self.prompts[strand.example]
        at = [
            p
            for p in range(len(strand.ids))
            if prompt.covers(edit.positions, p) and self._aligned(edit, strand, p) is not None
        ]
        source = self._source(edit, strand.example, at, seen)
        return _name(edit), partial(_write, edit=edit, row=row, at=at, source=source, fired=fired)

    def _source(self, edit: Edit, example: int, at: list[int], seen: "SourceRuns") -> Tensor | None:
        """(len(at), ...) the source run's values at the positions that are written."""
        lookup = edit.replacement.lookup
        if lookup is not None:
            rows = lookup.values(edit.component, edit.layer)[[lookup.row(example, p) for p in at]]
            rows = rows.to(self.network.device)
            return rows if edit.unit is None else rows[:, edit.unit]
        if edit.replacement.sources is None:
            return None
        strand = Strand(example, self.prompts[example].ids, ())
        values = seen[_source_key(edit, example)][_name(edit)]
        return _of_unit(values[0, [self._aligned(edit, strand, p) for p in at]], edit)

    def _source_runs(self, example: int, edits: Sequence[Edit]) -> "SourceRuns":
        """What stands at the places of `edits` in the runs whose values they put in, each of which is run once."""
        wanted: dict[tuple[Ids, Intervention | None], set[str]] = {}
        for edit in edits:
            if edit.replacement.sources is not None:
                wanted.setdefault(_source_key(edit, example), set()).add(_name(edit))
        return {key: self._captured(example, *key, sorted(names)) for key, names in wanted.items()}

    def _captured(
        self, example: int, ids: Ids, within: Intervention | None, names: Sequence[str]
    ) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}
        inner = within.edits if within else ()
        sources = self._source_runs(example, inner)
        hooks = [self._hook(edit, Strand(example, ids, ()), sources, [], 0) for edit in inner]
        keep = [(name, partial(_keep, into=seen, name=name)) for name in names]
        self.network.run_with_hooks(torch.tensor([ids], device=self.network.device), [*hooks, *keep])
        return seen

    def _aligned(self, edit: Edit, strand: Strand, position: int) -> int | None:
        """The source run's position for `position`; a token without one keeps its own value."""
        if edit.replacement.sources is None:
            return position
        source = edit.replacement.sources[strand.example]
        return edit.replacement.source_position(position, len(self.prompts[strand.example].ids), len(source))


# By the tokens of a source run and what is done to it: what stands at each of its hooks.
SourceRuns = dict[tuple[Ids, Intervention | None], dict[str, Tensor]]


def hook_name(component: str, layer: int) -> str:
    """TransformerLens' name of the place."""
    return f"blocks.{layer}.{_HOOKS[component]}"


def _name(edit: Edit) -> str:
    return hook_name(edit.component, edit.layer)


def _source_key(edit: Edit, example: int) -> tuple[Ids, Intervention | None]:
    assert edit.replacement.sources is not None
    return edit.replacement.sources[example], edit.replacement.within


def _keep(x: Tensor, hook: Any, *, into: dict[str, Tensor], name: str) -> None:  # noqa: ARG001 - as below
    into[name] = x.clone()


def _margin(readout: Readout) -> Tensor:
    """(runs,): the lead of the most probable token, at the read where it is smallest."""
    best = readout.logits.topk(2).values
    return (best[..., 0] - best[..., 1]).amin(-1)


def _of_unit(x: Tensor, edit: Edit) -> Tensor:
    """(positions, width) of the edit's unit, or (positions, units, width) of a whole component."""
    if edit.component in _BY_HEAD:
        return x if edit.unit is None else x[:, edit.unit]
    if edit.component == "neurons":
        return x[..., None] if edit.unit is None else x[:, edit.unit, None]
    return x[:, None] if edit.unit is None else x


def _write(
    x: Tensor,
    hook: Any,  # noqa: ARG001 - TransformerLens passes it by name
    *,
    edit: Edit,
    row: int,
    at: list[int],
    source: Tensor | None,
    fired: list[str],
) -> Tensor:
    fired.append(edit.label)
    new = x.clone()
    mine = new[row]  # (positions, ...): this intervention's copy
    value = edit.replacement.value(_of_unit(x[row, at], edit), source, edit)
    if edit.unit is None:
        mine[at] = value.reshape(mine[at].shape)
    elif edit.component in (*_BY_HEAD, "neurons"):
        mine[at, edit.unit] = value.reshape(mine[at, edit.unit].shape)
    else:
        mine[at] = value
    return new


def _reads(reads: list[Any], device: str) -> Reads:
    column = partial(torch.tensor, device=device)
    return Reads(
        tokens=token_sets([r.tokens for r in reads]).to(device), example=column([0] * len(reads)),
        is_foil=column([r.is_foil for r in reads]), foils=token_sets([r.foils for r in reads]).to(device), n_examples=1,
    )  # fmt: skip
