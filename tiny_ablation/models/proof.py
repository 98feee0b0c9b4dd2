"""The proof, on the model itself, that its parts are where they were found to be.

- Every place is reached exactly once in a pass.
- What attention and MLP are taken to add is what is added: with other numbers written there, each block still gives the sum of
  what entered it and of what was written.
- With all heads of a block zeroed, attention adds the same to every token: its bias.
- Writing to one head's queries changes the output of that head alone, and at that token alone; writing to a key or value
  changes the heads of its group alone, from that token on; at the first token, which sees itself alone, keys and queries
  change nothing.

Parts that fail are refused one by one, with the reason. Blocks that are built alike share the proofs that call attention for
each head. Costs three passes over eight tokens, and two calls of attention for each head.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tiny_ablation.errors import first_line, is_out_of_memory
from tiny_ablation.models.discovery import NO_MLP, Block, find_blocks, probe_ids, run, take_apart
from tiny_ablation.models.heads import UNKNOWN_FUSED, width_of
from tiny_ablation.models.hookpoints import HEAD_COMPONENTS, HookPoint
from tiny_ablation.models.streams import alike, is_norm, same, terms_of
from tiny_ablation.models.watch import showing, watching

_ELSEWHERE = "what its attention and its MLP give goes through other parts before it is added"
_CHANGED = 1e-5  # of the largest value: less is rounding


@dataclass(frozen=True)
class Parts:
    """What was proven of one block."""

    module: nn.Module  # the block
    points: dict[str, HookPoint]  # where each component is
    refused: dict[str, str]  # why the others cannot be used, in words
    mlp: nn.Module | None  # its output is what the MLP adds, before a norm after it; None unless it computes token by token
    result: Any  # what the block gave in a pass, for its form


def proven_parts(hf: Any) -> tuple[list[Parts], str]:
    """The parts of every block, each proven or refused; and the print of what the blocks give for a few tokens (`Shown`).

    Raises:
        ModelError: no stack of blocks was found.
    """
    found = take_apart(hf, find_blocks(hf))
    _prove_sums(hf, found)
    _prove_heads_are_all(hf, found)
    chosen: dict[tuple[Any, ...], dict[str, int | str]] = {}
    for block in found:
        # Blocks that are built alike are proven once.
        events = tuple((e.name, type(e.module), None if e.gave is None else e.gave.shape) for e in block.watched.events)
        kind = events, tuple((c, len(points)) for c, points in block.points.items())
        if kind not in chosen:
            chosen[kind] = _choose(block)
        for component, verdict in chosen[kind].items():
            if isinstance(verdict, str):
                block.points.pop(component)
                block.refused[component] = verdict
            else:
                block.points[component] = [block.points[component][verdict]]
    shown = _prove_calls(hf, found)
    # Sites are counted with one number of heads: blocks that have another number than most are refused.
    for component in HEAD_COMPONENTS:
        points = [(b, b.points[component][0].units) for b in found if component in b.points]
        counts = [(b, len(units)) for b, units in points if units is not None]
        numbers = [n for _, n in counts]
        most = max(numbers, key=lambda n: (numbers.count(n), n), default=0)
        for block, n in counts:
            if n != most:
                _refuse(block, component, f"it has {n} of them, and most blocks of this model have {most}")
    parts = [
        Parts(
            module=block.module,
            points={c: replace(points[0], label=f"blocks.{layer}.{c}") for c, points in block.points.items()},
            refused=block.refused,
            mlp=block.mlp,
            result=block.watched.result,
        )
        for layer, block in enumerate(found)
    ]
    return parts, shown


def _refuse(block: Block, component: str, reason: str) -> None:
    if block.points.pop(component, None) is not None:
        block.refused[component] = reason


def _prove_calls(hf: Any, blocks: Sequence[Block]) -> str:
    """Refuse what is not reached exactly once in a pass; the result is the print of the pass (`Shown`)."""
    counts: Counter[tuple[int, str]] = Counter()
    with showing(block.module for block in blocks) as seen, ExitStack() as hooks:
        for layer, block in enumerate(blocks):
            for component, [point] in block.points.items():
                count = point.on_read(lambda _, key=(layer, component): counts.update([key]))
                hooks.enter_context(count)
        shown = seen.print(run(hf, probe_ids(hf)))
    for layer, block in enumerate(blocks):
        for component in [*block.points]:
            if counts[layer, component] != 1:
                _refuse(block, component, f"{component} is reached {counts[layer, component]} times a pass")
    return shown


def _prove_sums(hf: Any, blocks: Sequence[Block]) -> None:
    """Write noise where attention and MLP are said to add, and find the same sum again."""
    generator = torch.Generator().manual_seed(0)

    def noise(x: Tensor) -> None:
        size = x.float().std().clamp_min(1e-3).cpu()
        x.add_((size * torch.randn(x.shape, generator=generator)).to(x))

    adding = [p for b in blocks for c in ("attn_out", "mlp_out") for p in b.points.get(c, ())]
    with ExitStack() as hooks:
        for point in adding:
            hooks.enter_context(point.on_write(noise))
        with watching([b.module for b in blocks]) as seen:
            run(hf, probe_ids(hf))
    for block, watched in zip(blocks, seen, strict=True):
        if block.terms is None or not {"attn_out", "mlp_out"} & set(block.points):
            continue
        again = terms_of(watched)
        if again is None or not all(any(alike(t, other) for other in again) for t in block.terms):
            for component in ("attn_out", "mlp_out"):
                _refuse(block, component, f"what is written to {component} is not what its block adds")


def _prove_heads_are_all(hf: Any, blocks: Sequence[Block]) -> None:
    """Zero all heads: what attention adds is then the same at every token."""
    added: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        for layer, block in enumerate(blocks):
            if "z" in block.points and "attn_out" in block.points:
                hooks.enter_context(block.points["z"][0].on_write(Tensor.zero_))
                keep: Callable[[Tensor], None] = lambda x, layer=layer: added.update({layer: x.clone()})  # noqa: E731
                hooks.enter_context(block.points["attn_out"][0].on_read(keep))
        run(hf, probe_ids(hf))
    for layer, values in added.items():
        rows = values.reshape(blocks[layer].tokens, -1)
        clean = _gave(blocks[layer], blocks[layer].points["attn_out"][0])
        size = max(rows.abs().max().item(), 0.0 if clean is None else clean.abs().max().item())
        if not bool(((rows - rows[:1]).abs() <= 1e-4 * size).all()):
            _refuse_heads_or_output(blocks[layer])


def _refuse_heads_or_output(block: Block) -> None:
    """Whichever is not what it was taken for: without heads the attention itself gives the same at every token, or not."""
    assert block.attention is not None
    event, found = block.attention.call, []
    try:
        with (
            block.points["z"][0].on_write(Tensor.zero_),
            HookPoint("", event.module, "out").attach(lambda x: found.append(x.clone())),
            torch.no_grad(),
        ):
            event.module(*event.args, **event.kwargs)
        rows = found[0].reshape(block.tokens, -1)
        alone = torch.allclose(rows, rows[:1].expand_as(rows), rtol=0, atol=1e-4 * rows.abs().max().item())
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        alone = False
    if not alone:
        _refuse(block, "z", "its attention gives more than its heads")
        return
    for component in ("attn_out", "mlp_out", "neurons"):
        _refuse(block, component, _ELSEWHERE)
        if block.refused.get(component) == NO_MLP:
            block.refused[component] = _ELSEWHERE


def _gave(block: Block, point: HookPoint) -> Tensor | None:
    """What the module of a place gave when the block was watched."""
    return next((e.gave for e in block.watched.events if e.module is point.module), None)


def _choose(block: Block) -> dict[str, int | str]:
    """For q, k and v which candidate was proven, or why none was."""
    asked = [c for c in "qkv" if c in block.points]
    if block.attention is None or not asked:
        return {}
    faults = [{c: _fault_told(block, c, block.points[c][i]) for c in asked} for i in range(len(block.points[asked[0]]))]
    right = [i for i, of_layout in enumerate(faults) if not any(of_layout.values())]
    if len(faults) == 1:
        return {c: fault or 0 for c, fault in faults[0].items()}
    return dict.fromkeys(asked, right[0] if len(right) == 1 else UNKNOWN_FUSED)


def _fault_told(block: Block, component: str, point: HookPoint) -> str:
    """As `_fault`; a module that cannot be called again with what it was given is a fault as well."""
    try:
        return _fault(block, component, point)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        said = first_line(error)
        return f"its attention fails when one {component} is written to: {said}"


def _fault(block: Block, component: str, point: HookPoint) -> str:
    """What is wrong with a place of queries, keys or values; empty where nothing is."""
    assert block.attention is not None
    assert point.units is not None
    heads, n = block.attention.heads, len(point.units)
    if heads % n:
        return f"its {n} {component} cannot be shared out among {heads} heads"
    gave, middle = _gave(block, point), block.tokens // 2
    # If the module gives more than these units, they may be something else than they were taken for.
    part = gave is not None and gave.shape[-1] > point.units.numel()
    for other in block.watched.events if gave is not None else ():
        # A norm over all heads keeps their order but mixes their sizes, so it is written to what it gives.
        if is_norm(other) and same(other.given, gave) and width_of(other.given) == width_of(gave):
            point = HookPoint("", other.module, "out", point.units)
            break
    taken, moved_first, causal = set(), False, True
    for unit in range(n):
        changed = _changed(block, point, unit, middle)
        mine = set(changed.any(0).nonzero()[:, 0].tolist())
        if len(mine) > heads // n or mine & taken:
            return f"writing to one {component} changes heads that are not its own"
        taken |= mine
        causal &= not bool(changed[:middle].any())
        if component == "q" and bool(torch.cat([changed[:middle], changed[middle + 1 :]]).any()):
            return "writing to the query of one token changes others"
        moved_first |= bool(_changed(block, point, unit, 0)[0].any())
    if causal and component == "v" and not moved_first:
        return "writing to the values of the first token changes nothing there"
    if causal and part and component != "v" and moved_first:
        return f"writing to {component} of the first token, which sees nothing else, changes it"
    return ""


def _changed(block: Block, point: HookPoint, unit: int, at: int) -> Tensor:
    """(tokens, heads) bool: which heads change at which tokens when a unit is changed at one token."""
    assert block.attention is not None
    # What the heads gave is seen at the output projection, or before a norm over all of them (BitNet).
    seen = block.attention.output
    for event in block.watched.events:
        if is_norm(event) and same(event.gave, seen.given) and event.given is not None:
            seen = event
            break
    assert seen.given is not None
    before = seen.given.reshape(block.tokens, block.attention.heads, -1)

    def write(x: Tensor) -> None:
        flat = x.view(-1, *x.shape[-2:])
        noise = torch.randn(flat.shape[-1], generator=torch.Generator().manual_seed(unit)).to(x)
        flat[at, unit] += (3 * x.float().std()).to(x) * noise

    found: list[Tensor] = []
    place, call = HookPoint("", seen.module, "in"), block.attention.call
    with point.on_write(write), place.attach(lambda x: found.append(x.clone())), torch.no_grad():
        call.module(*call.args, **call.kwargs)
    after = found[0].reshape(before.shape)
    return ((after - before).abs() > _CHANGED * before.abs().max()).any(-1)
