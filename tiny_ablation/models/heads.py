"""Where the heads of an attention module are: the input of its output projection, and its queries, keys and values.

Found in what was watched of one pass; whether it is right is proven by `proof`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tiny_ablation.models.architectures import fused_layouts
from tiny_ablation.models.watch import Event, Watched

_NAMES = {
    "q": re.compile(r"(w_?q|(q|query|queries)(_(b|up))?(_?(proj|lin|linear|layer))?)", re.IGNORECASE),
    "k": re.compile(r"(w_?k|(k|key|keys)(_?(proj|lin|linear|layer))?)", re.IGNORECASE),
    "v": re.compile(r"(w_?v|(v|value|values)(_?(proj|lin|linear|layer))?)", re.IGNORECASE),
}
_JOINT = re.compile(r"kv_b_proj|kv_up_proj", re.IGNORECASE)
_ATTENTION = re.compile(r"att", re.IGNORECASE)
_NO_HEADS = re.compile(r"linear_?att|lightning|delta|mamba|rwkv|lstm|conv|recurrent|retention", re.IGNORECASE)

NO_ATTENTION, SHARED = "it has no attention", "it uses the keys and values of another block"
UNKNOWN_FUSED = "q, k and v of this model are fused in a way that is not known"


@dataclass
class Attention:
    """The attention of one block."""

    call: Event  # of the smallest module that holds the projections, attention itself and the output projection
    heads: int  # query heads
    output: Event  # the call of the output projection
    # For each component the module and side where its units are, and which entries of the last axis belong to each,
    # (units, width); q, k and v may have several candidates, of which the proof chooses.
    units: dict[str, list[tuple[Event, str, Tensor]]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # why other components have none


def attention_of(watched: Watched, config: Any) -> "Attention | str":
    """The attention of a block, or why it has no heads that could be told apart."""
    if len(watched.attended) > 1:
        return f"its blocks attend {len(watched.attended)} times"
    found = _by_call(watched) if watched.attended else _by_name(watched, config)
    if isinstance(found, str):
        return found
    width = width_of(found.output.given)
    found.units["z"] = [(found.output, "in", torch.arange(width).view(found.heads, -1))]
    maps = [e for _, e in matrices(watched.events, found.call.name) if e is not found.output]
    named = {part: [e for e in maps if _is_called(e, pattern)] for part, pattern in _NAMES.items()}
    call = watched.attended[0] if watched.attended else None
    if len(named["q"]) == 1:
        _separate(found, {part: events[0] for part, events in named.items() if len(events) == 1}, maps, call)
    else:
        _fused(found, maps, call, config)
    return found


def matrices(events: Sequence[Event], inside: str = "") -> Iterator[tuple[int, Event]]:
    """The calls of modules that multiply by a matrix, with their places in `events`; if a module is named, those inside it."""
    for i, event in enumerate(events):
        weight = getattr(event.module, "weight", None)
        if (
            isinstance(weight, Tensor)
            and weight.dim() == 2
            and event.given is not None
            and event.gave is not None
            and not isinstance(event.module, nn.Embedding)
            and not list(event.module.children())
            and (not inside or event.name == inside or event.name.startswith(f"{inside}."))
        ):
            yield i, event


def _by_call(watched: Watched) -> "Attention | str":
    """By the call of the attention function that transformers' models share."""
    call = watched.attended[0]
    names = {module: name for name, module in watched.block.named_modules()}
    name, width = names[call.module], call.heads * call.d_value
    while name:
        behind = [e for i, e in matrices(watched.events, name) if i >= call.at and width_of(e.given) == width]
        if behind:
            return Attention(next(event for event in watched.events if event.name == name), call.heads, behind[-1])
        name = name.rpartition(".")[0]
    return "the output projection of its attention was not found"


def _by_name(watched: Watched, config: Any) -> "Attention | str":
    """By the names of classes, where attention is code of the model's own."""
    heads = getattr(config, "num_attention_heads", None)
    for event in sorted(watched.events, key=lambda e: e.name.count(".")):
        kind = type(event.module).__name__
        if not _ATTENTION.search(kind) or _NO_HEADS.search(kind) or _NO_HEADS.search(event.name):
            continue
        inside = [e for _, e in matrices(watched.events, event.name)]
        if inside and isinstance(heads, int) and width_of(inside[-1].given) % heads == 0:
            return Attention(event, heads, inside[-1])
    return NO_ATTENTION


def width_of(x: Tensor | None) -> int:
    """The size of the last axis; 0 for nothing."""
    return 0 if x is None else x.shape[-1]


def _is_called(event: Event, pattern: re.Pattern[str]) -> bool:
    """Whether the module, or the one around it (`q_proj.linear`), has such a name."""
    return any(pattern.fullmatch(name) for name in event.name.split(".")[-2:])


def _separate(found: Attention, named: Mapping[str, Event], maps: Sequence[Event], call: Any) -> None:
    """Each part is the output of a matrix of its own."""
    d_value = width_of(found.output.given) // found.heads
    queries = width_of(named["q"].gave)
    d_query = call.d_query if call else queries // found.heads
    index = torch.arange(queries).view(found.heads, -1)
    # A projection that is wider gives a gate beside each query: the query stands first in its head.
    found.units["q"] = [(named["q"], "out", index[:, :d_query])]
    joint = [e for e in maps if _is_called(e, _JOINT)]
    if joint:
        of_head = torch.arange(width_of(joint[0].gave)).view(found.heads, -1)
        found.units["v"] = [(joint[0], "out", of_head[:, -d_value:])]
        found.refused["k"] = "a key of this model is made of a part of each head's own and one that all heads share"
        return
    for part, d in (("k", d_query), ("v", d_value)):
        if part in named and width_of(named[part].gave) % d == 0:
            found.units[part] = [(named[part], "out", torch.arange(width_of(named[part].gave)).view(-1, d))]
    if "k" not in named and "v" not in named:
        found.refused |= dict.fromkeys("kv", SHARED)
    elif "v" not in named:
        found.units.pop("k", None)
        found.refused |= dict.fromkeys("kv", "keys and values of this model are one projection")


def _fused(found: Attention, maps: Sequence[Event], call: Any, config: Any) -> None:
    """One matrix gives queries, keys and values."""
    d = call.d_query if call else width_of(found.output.given) // found.heads
    widths = [e for e in maps if width_of(e.gave) > found.heads * d]
    if len(widths) != 1:
        found.refused |= dict.fromkeys("qkv", "q, k and v of this model are not the outputs of matrices that were found")
        return
    index = torch.arange(width_of(widths[0].gave))
    for layout in fused_layouts(config, found.heads, d, len(index)):
        for part, units in zip("qkv", layout(index), strict=True):
            found.units.setdefault(part, []).append((widths[0], "out", units))
    if "q" not in found.units:
        found.refused |= dict.fromkeys("qkv", UNKNOWN_FUSED)
