"""Where the parts of a model are, found in its module tree and in forward passes over a few tokens.

There is no list of architectures: the blocks are the stack of modules that the residual stream goes through, attention and MLP
are the modules that add to it (see `streams`), the output projection is the last matrix of attention (see `heads`). Parts that
are not found are refused one by one, with the reason, and the rest can be used. `proof` proves that what was found is right.
"""

import inspect
import re
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tiny_ablation.errors import ModelError
from tiny_ablation.models.heads import NO_ATTENTION, SHARED, Attention, attention_of, matrices
from tiny_ablation.models.hookpoints import HookPoint
from tiny_ablation.models.placed import weight_like
from tiny_ablation.models.streams import Term, is_norm, same, terms_of
from tiny_ablation.models.watch import Event, Watched, attention_watched, watching

PROBE = 8  # tokens, where the model can read so many

NO_MLP = "it has no MLP"
# What a block of a hybrid does not have; anything else is there, and could not be proven.
ABSENT = frozenset((NO_ATTENTION, NO_MLP, SHARED))

_MLP = re.compile(r"mlp|feed_?forward|ffn?|moe|experts?|fc_?(out|2)|output|linear_?2", re.IGNORECASE)


@dataclass
class Block:
    """The parts of one block."""

    module: nn.Module  # the block
    watched: Watched  # the pass in which the parts were found
    tokens: int  # of that pass
    points: dict[str, list[HookPoint]] = field(default_factory=dict)  # all candidates for q, k and v, one for other components
    refused: dict[str, str] = field(default_factory=dict)  # why a component is not there, in words
    attention: Attention | None = None  # None if it has none with heads
    mlp: nn.Module | None = None  # its output is what the MLP adds, before a norm after it; None if there is none
    terms: list[Term] | None = None  # what the block adds to the residual stream; None if not found


def probe_ids(hf: Any, n: int | None = None, first: int = 0) -> Tensor:
    """(1, n) tokens that are not special: from the middle of the vocabulary on, in steps; by default a few."""
    config = hf.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)  # XLNet says -1
    size, n = config.vocab_size, n or min(PROBE, limit if limit and limit > 0 else PROBE)
    device = weight_like(hf).device
    return (size // 2 + 7 * torch.arange(first, first + n, device=device))[None] % size


def run(hf: Any, ids: Tensor) -> Tensor:
    """(rows, seq, d_vocab): the logits of the bare model."""
    with torch.no_grad():
        return hf(input_ids=ids, **without_cache(hf)).logits


def without_cache(hf: Any) -> dict[str, Any]:
    """The argument that makes the model keep no keys and values, if it has one."""
    parameters = inspect.signature(hf.forward).parameters
    told = "use_cache" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {"use_cache": False} if told else {}


def find_blocks(hf: Any) -> list[Watched]:
    """What happened in each transformer block; those that wait for pictures (Llama 3.2 Vision) are not counted.

    Raises:
        ModelError: there is no stack of blocks that the residual stream goes through, each once.
    """
    stacks = [m for m in hf.modules() if isinstance(m, nn.ModuleList) and len(m)]
    layers = getattr(hf.config.get_text_config(), "num_hidden_layers", None)
    stacks.sort(key=lambda m: (len(m) == layers, sum(p.numel() for p in m.parameters())), reverse=True)
    for stack in stacks[:3]:
        order, seen = _calls(hf, stack)
        if _is_stack(order, seen):
            _refuse_others(hf, stack, stacks)
            return [seen[i] for i in order]
        if len(order) > len(stack) and set(order) == set(range(len(stack))):
            raise ModelError(
                f"the blocks of this model run {len(order) / len(stack):.3g} times a pass each, and no block can be told from "
                "itself; nothing can be ablated in it"
            )
    raise ModelError("no stack of blocks that the residual stream goes through was found in this model")


def _is_stack(order: list[int], seen: Sequence[Watched]) -> bool:
    """Whether most of these modules run, in their order, and each is given what the one before gave."""
    ran = [seen[i] for i in order]
    joined = all(same(a.leaving, b.entering) for a, b in pairwise(ran))
    return joined and 2 * len(order) > len(seen) and order == sorted(set(order))


def _refuse_others(hf: Any, found: nn.ModuleList, stacks: Sequence[nn.ModuleList]) -> None:
    """Refuse a model of several stacks (BLT): its blocks would be called what are a part of its blocks only."""
    inside, names = set(found.modules()), {module: name for name, module in hf.named_modules()}
    for stack in stacks:
        if stack not in inside and found not in set(stack.modules()) and len(stack) > 1:
            order, seen = _calls(hf, stack)
            if len(order) > 1 and _is_stack(order, seen):
                raise ModelError(
                    f"the residual stream of this model goes through several stacks of blocks ({names[found]}, "
                    f"{names[stack]}); nothing can be ablated in it"
                )


def _calls(hf: Any, stack: nn.ModuleList) -> tuple[list[int], list[Watched]]:
    """Which modules run in a pass, one after the other, and what happened in each."""
    order: list[int] = []
    with ExitStack() as hooks:
        for i, block in enumerate(stack):
            hooks.enter_context(block.register_forward_pre_hook(lambda *_, i=i: order.append(i)))
        seen = hooks.enter_context(watching(list(stack)))
        run(hf, probe_ids(hf))
    return order, seen


def find_final_norm(hf: Any, unembed: nn.Module) -> nn.Module | None:
    """The module whose output is unembedded."""
    with watching([hf]) as [watched]:
        run(hf, probe_ids(hf))
    end = next(event for event in watched.events if event.module is unembed)
    return next((e.module for e in watched.events if is_norm(e) and same(e.gave, end.given)), None)


def take_apart(hf: Any, seen: list[Watched]) -> list[Block]:
    """The parts of every block, from what happened in them (`find_blocks`)."""
    ids, blocks = probe_ids(hf), [watched.block for watched in seen]
    silent = {
        event.module
        for watched in seen
        for event in watched.events
        if "." not in event.name
        and event.gave is not None
        and watched.entering is not None
        and event.gave.numel() == watched.entering.numel()
        and not bool(event.gave.any())
    }
    if silent:
        # Zeros cannot be recognised in a sum, so the modules that give nothing give noise instead.
        generator = torch.Generator().manual_seed(0)
        with ExitStack() as hooks:
            for module in silent:
                voice = HookPoint("", module, "out").attach(lambda x: torch.randn(x.shape, generator=generator).to(x))
                hooks.enter_context(voice)
            seen = hooks.enter_context(watching(blocks))
            run(hf, ids)
    with watching(blocks) as again, attention_watched(hf, again), suppress(Exception):
        run(hf, ids)  # which may fail where attention is code of the model's own
    for watched, other in zip(seen, again, strict=True):
        watched.attended = other.attended
    return [_block(watched, hf.config.get_text_config(), ids.shape[1]) for watched in seen]


def _block(watched: Watched, config: Any, tokens: int) -> Block:
    block = Block(watched.block, watched, tokens)
    if reason := _fault_of_streams(block):
        block.refused |= dict.fromkeys(("resid_pre", "resid_post"), reason)
    else:
        block.points["resid_pre"] = [HookPoint("", watched.block, "in")]
        block.points["resid_post"] = [HookPoint("", watched.block, "out")]
        block.terms = terms_of(watched)
    _attention(block, config)
    if block.terms is not None:
        _added(block, block.terms)
    left = {"attn_out", "mlp_out"} - set(block.points) - set(block.refused)
    if block.terms is None:
        reason = "what enters a block and what its parts add do not add up to what leaves it"
        block.refused |= dict.fromkeys(left, reason)
    elif "mlp_out" in left:
        block.refused["mlp_out"] = block.refused["neurons"] = NO_MLP
    if block.refused.get("z") == NO_ATTENTION or ("attn_out" in left and block.terms is not None):
        block.refused["attn_out"] = block.refused.get("z", "what its attention adds was not found")
    return block


def _fault_of_streams(block: Block) -> str | None:
    """Why the residual stream is not one vector for each token; None if it is."""
    entering, leaving, result = block.watched.entering, block.watched.leaving, block.watched.result
    if entering is None or leaving is None or entering.dim() != 3 or leaving.shape != entering.shape:
        return "its residual stream is not one vector a token"
    if entering.shape[:2] != (1, block.tokens):
        return "its residual stream is not ordered by prompt and token"
    if isinstance(result, tuple) and leaving.shape in [getattr(x, "shape", None) for x in result[1:]]:
        return "it has several residual streams"
    return None


def _attention(block: Block, config: Any) -> None:
    found = attention_of(block.watched, config)
    if isinstance(found, str):
        block.refused |= dict.fromkeys(("z", "q", "k", "v"), found)
        return
    block.attention = found
    for component, candidates in found.units.items():
        block.points[component] = [HookPoint("", event.module, side, units) for event, side, units in candidates]
    block.refused |= found.refused
    for component in set("qkv") - set(block.points) - set(block.refused):
        block.refused[component] = f"where {component} is made was not found"


def _added(block: Block, terms: Sequence[Term]) -> None:
    """Which of the terms is attention's, and which the MLP's."""
    events, rest = block.watched.events, list(terms)
    if block.attention is not None:
        made = next(i for i, e in enumerate(events) if e is block.attention.output)
        behind = [term for term in rest if events.index(term.event) >= made]
        if behind:
            rest.remove(behind[0])
            block.points["attn_out"] = [HookPoint("", behind[0].event.module, "out", factor=behind[0].factor)]
    origins = {id(term): _origin(term.event, events) for term in rest}
    by_token = [term for term in rest if _by_token(origins[id(term)], block.tokens)]
    named = [term for term in rest if _MLP.search(origins[id(term)].name)]
    named = [term for term in named if term in by_token] or named or by_token
    if len(named) > 1:
        block.refused["mlp_out"] = f"its MLP adds to the residual stream in {len(named)} parts"
    if len(named) != 1:
        return
    [term], origin = named, origins[id(named[0])]
    block.points["mlp_out"] = [HookPoint("", term.event.module, "out", factor=term.factor)]
    block.mlp = origin.module if term in by_token else None
    # Neurons are the input of the matrix whose output is the MLP's.
    inside = [e for _, e in matrices(events, origin.name) if same(e.gave, origin.gave)]
    if inside and inside[-1].given is not None:
        width = inside[-1].given.shape[-1]
        block.points["neurons"] = [HookPoint("", inside[-1].module, "in", torch.arange(width)[:, None])]
    else:
        block.refused["neurons"] = "its MLP has no single matrix that neurons go into"


def _origin(event: Event, events: Sequence[Event]) -> Event:
    """The outermost module whose output a norm was given; any other module itself."""
    if is_norm(event):
        for other in events:
            if other is not event and same(other.gave, event.given) and not is_norm(other):
                outer = [e for e in events if other.name.startswith(f"{e.name}.") and same(e.gave, other.gave)]
                return min([other, *outer], key=lambda e: e.name.count("."))
    return event


def _by_token(event: Event, tokens: int) -> bool:
    """Whether the module computes each token by itself: with the first changed, the others stay."""
    if event.given is None or event.gave is None or event.given.numel() % tokens:
        return False
    changed = event.given.reshape(tokens, -1).flip(-1)[:1]

    def change(x: Tensor) -> Tensor:
        new = x.clone()
        new.view(tokens, -1)[:1] = changed
        return new

    try:
        with torch.no_grad(), HookPoint("", event.module, "in").attach(change):
            out = event.module(*event.args, **event.kwargs)
    except Exception:  # a module that cannot be called again is not taken for an MLP
        return False
    gave = (out[0] if isinstance(out, (tuple, list)) else out).reshape(tokens, -1)
    before = event.gave.reshape(tokens, -1)
    return torch.allclose(gave[1:], before[1:], rtol=1e-3, atol=1e-5) and not torch.equal(gave[0], before[0])
