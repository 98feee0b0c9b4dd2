"""Attention scores before the softmax, as a place that can be written to: what is added to them, for all heads of a block.

    scores     (rows, queries, 1, keys)         zeros, to which a hook may add; minus infinity cuts an edge

Modules do not hand them on as a tensor, so they are reached through the mask that every attention module is given. Attention in
chunks has masks of its own and asks for the same function. Whether this is exact is proven on the model: if the last token sees
itself alone in every block, the tokens before must not matter to it, and nothing may change at other tokens.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tiny_ablation.errors import ModelError, first_line, is_out_of_memory
from tiny_ablation.models.discovery import probe_ids, run
from tiny_ablation.models.hookpoints import HookPoint, first_tensor
from tiny_ablation.models.judge import difference

if TYPE_CHECKING:
    from tiny_ablation.models.proof import Parts

IN_CHUNKS = "tiny_ablation_tree"  # the attention implementation that asks `added_scores` by itself
_WRITER = "tiny_ablation_scores"


@dataclass(frozen=True)
class ScoresPoint(HookPoint):
    """The scores of one block; `module` is its attention."""

    config: Any = None  # of the language model; it names the attention that is in use

    def on_read(self, fn: Callable[[Tensor], object]) -> Any:
        """There is nothing to read: what stands there is zero."""
        raise NotImplementedError(f"{self.label} can only be written to")

    def on_write(self, fn: Callable[[Tensor], object]) -> Any:
        """Call `fn` with zeros (rows, queries, 1, keys) at each forward pass; what it leaves in them is added to the scores."""
        signature = inspect.signature(self.module.forward)

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self.config._attn_implementation == IN_CHUNKS:
                return None
            x = first_tensor(args, kwargs)[1]
            rows, width = x.shape[:2]
            added = added_scores(module, (rows, width, width), x)
            assert added is not None
            bound = signature.bind(*args, **kwargs)
            mask: Tensor | None = bound.arguments.get("attention_mask")
            if mask is None:  # a causal one
                mask = torch.ones((width, width), dtype=torch.bool, device=added.device).tril()[None, None]
            # (rows, 1 or heads, queries, keys). What the mask excludes becomes minus infinity, not the smallest number: else a
            # token that sees nothing would see everything.
            if mask.dtype == torch.bool:
                whole = added[:, None].masked_fill(~mask, -torch.inf)
            else:
                whole = mask.masked_fill(mask < torch.finfo(mask.dtype).min / 2, -torch.inf) + added[:, None]
            bound.arguments["attention_mask"] = whole
            return bound.args, bound.kwargs

        setattr(self.module, _WRITER, fn)
        handle = ExitStack()
        handle.callback(delattr, self.module, _WRITER)
        handle.enter_context(self.module.register_forward_pre_hook(hook, with_kwargs=True))
        return handle


def added_scores(module: Any, shape: tuple[int, int, int], like: Tensor) -> Tensor | None:
    """(rows, queries, keys), of the type of `like`: what is to be added to the scores of an attention module, if anything."""
    write = getattr(module, _WRITER, None)
    if write is None:
        return None
    added = like.new_zeros(shape[0], shape[1], 1, shape[2])
    write(added)
    return added[:, :, 0]


def scores_points(hf: Any, parts: "Sequence[Parts]") -> list[ScoresPoint] | str:
    """The scores of every block, proven; or why they cannot be used, in words.

    Costs three passes over eight tokens.
    """
    found = []
    for layer, part in enumerate(parts):
        z = part.points.get("z")
        attention = next((m for m in part.module.modules() if z is not None and z.module in [*m.children()]), None)
        if attention is None:
            return f"block {layer} has no attention whose heads are known"
        if "attention_mask" not in inspect.signature(attention.forward).parameters:
            return f"the attention of block {layer} ({type(attention).__name__}) is given no mask"
        found.append(ScoresPoint(f"blocks.{layer}.scores", attention, "in", config=hf.config.get_text_config()))
    try:
        return _fault(hf, found) or found
    except Exception as error:  # a model may refuse masks in any way
        if is_out_of_memory(error):
            raise
        return first_line(error)


def refused(name: str, why: str) -> ModelError:
    """The error for a model whose edges cannot be cut exactly."""
    return ModelError(
        f"model {name}: edges between tokens cannot be cut exactly in its attention: {why}; heads and layers can be ablated "
        "instead"
    )


def _fault(hf: Any, points: Sequence[ScoresPoint]) -> str | None:
    """What is wrong where the last token of a prompt is made to see itself alone."""
    ids = probe_ids(hf)
    others = probe_ids(hf, ids.shape[1], first=ids.shape[1])
    others[:, -1] = ids[:, -1]
    calls: list[int] = []

    def cut(x: Tensor) -> None:
        calls.append(1)
        x[:, -1, :, :-1] = -torch.inf

    clean = run(hf, ids)
    with ExitStack() as stack:
        for point in points:
            stack.enter_context(point.on_write(cut))
        alone, among_others = run(hf, ids), run(hf, others)
    if len(calls) != 2 * len(points):
        return "attention is not called exactly once in every block"
    if difference(clean[:, :-1], alone[:, :-1]):
        return "cutting what the last token sees changes other tokens"
    if difference(alone[:, -1], among_others[:, -1]):
        return "tokens reach the last one by other ways than through the attention that is masked"
    return None if difference(alone[:, -1], clean[:, -1]) else "cutting what the last token sees changes nothing"
