"""The plain reference: one prompt, one intervention, `run_with_hooks` on TransformerLens' bridge.

Slow and obvious on purpose. It shares no code with the executor but the definition of a replacement, so that the executor can
be held against it: other hooks, another attention implementation, no batching, no skipped blocks, no shared prefixes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.prompts import Prompt, Strand, sequences
from tiny_ablation.errors import GuardError
from tiny_ablation.metrics.readout import Metric, Readout, Reads, token_sets
from tiny_ablation.models.network import Network

_HOOKS = {
    "z": "attn.hook_z", "q": "attn.hook_q", "k": "attn.hook_k", "v": "attn.hook_v",
    "attn_out": "hook_attn_out", "mlp_out": "hook_mlp_out", "resid_pre": "hook_resid_pre", "resid_post": "hook_resid_post",
    "neurons": "mlp.out.hook_in",
}  # fmt: skip
_BY_HEAD = ("z", "q", "k", "v")


@dataclass
class Reference:
    """Computes one intervention on one prompt.

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

    @torch.no_grad()
    def values(self, intervention: Intervention | None, example: int) -> dict[str, float]:
        """Each metric of one example under one intervention; None is the baseline."""
        prompt = self.prompts[example]
        strands = [Strand(example, s.ids, s.reads) for s in sequences([prompt], full=self.full)]
        reads = _reads([read for s in strands for read in s.reads], self.network.device)
        base = Readout(torch.cat([self._logits(s, None) for s in strands])[None], reads)
        run = base
        if intervention is not None:
            run = Readout(torch.cat([self._logits(s, intervention) for s in strands])[None], reads)
        return {metric.name: metric.compute(run, base)[0, 0].item() for metric in self.metrics}

    def _logits(self, strand: Strand, intervention: Intervention | None) -> Tensor:
        """(n_reads, d_vocab) of one token sequence."""
        tokens = torch.tensor([strand.ids], device=self.network.device)
        fired: list[str] = []
        made = [i for i in (self.under, intervention) if i is not None]
        hooks: list[Any] = [self._hook(edit, strand, fired) for i in made for edit in i.edits]
        logits = self.network.bridge.run_with_hooks(tokens, fwd_hooks=hooks)
        if len(fired) != len(hooks):
            raise GuardError(f"reference: {len(hooks) - len(fired)} of {len(hooks)} hooks did not fire")
        return logits[0, [read.position for read in strand.reads]]

    def _hook(self, edit: Edit, strand: Strand, fired: list[str]) -> tuple[str, Any]:
        prompt = self.prompts[strand.example]
        at = [
            p
            for p in range(len(strand.ids))
            if prompt.covers(edit.positions, p) and self._aligned(edit, strand, p) is not None
        ]
        name = f"blocks.{edit.layer}.{_HOOKS[edit.component]}"
        source = self._source(edit, name, strand.example, at)
        return name, partial(_write, edit=edit, at=at, source=source, fired=fired)

    def _source(self, edit: Edit, name: str, example: int, at: list[int]) -> Tensor | None:
        """(len(at), ...) the source run's values at the positions that are written."""
        lookup = edit.replacement.lookup
        if lookup is not None:
            rows = lookup.values(edit.component, edit.layer)[[lookup.row(example, p) for p in at]]
            return rows if edit.unit is None else rows[:, edit.unit]
        if edit.replacement.sources is None:
            return None
        ids = edit.replacement.sources[example]
        seen: list[Tensor] = []
        within = edit.replacement.within.edits if edit.replacement.within else ()
        hooks = [self._hook(other, Strand(example, ids, ()), []) for other in within]
        self.network.bridge.run_with_hooks(
            torch.tensor([ids], device=self.network.device),
            fwd_hooks=[*hooks, (name, lambda x, hook: seen.append(x.clone()))],  # noqa: ARG005 - TransformerLens passes it by name
        )
        strand = Strand(example, self.prompts[example].ids, ())
        return _of_unit(seen[0][0, [self._aligned(edit, strand, p) for p in at]], edit)

    def _aligned(self, edit: Edit, strand: Strand, position: int) -> int | None:
        """The source run's position for `position`; a token without one keeps its own value."""
        if edit.replacement.sources is None:
            return position
        source = edit.replacement.sources[strand.example]
        return edit.replacement.source_position(position, len(self.prompts[strand.example].ids), len(source))


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
    at: list[int],
    source: Tensor | None,
    fired: list[str],
) -> Tensor:
    fired.append(edit.label)
    new = x.clone()
    value = edit.replacement.value(_of_unit(x[0, at], edit), source, edit)
    if edit.unit is None:
        new[0, at] = value.reshape(new[0, at].shape)
    elif edit.component in (*_BY_HEAD, "neurons"):
        new[0, at, edit.unit] = value.reshape(new[0, at, edit.unit].shape)
    else:
        new[0, at] = value
    return new


def _reads(reads: list[Any], device: str) -> Reads:
    column = partial(torch.tensor, device=device)
    return Reads(
        tokens=token_sets([r.tokens for r in reads]).to(device), example=column([0] * len(reads)),
        is_foil=column([r.is_foil for r in reads]), foils=token_sets([r.foils for r in reads]).to(device), n_examples=1,
    )  # fmt: skip
