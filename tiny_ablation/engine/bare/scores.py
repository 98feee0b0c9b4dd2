"""Attention scores before the softmax, changed where PyTorch is called: its softmax, or its attention in one piece.

Not through masks that modules are given, as the engine does it, so that a fault there shows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tiny_ablation.engine.bare.additions import Change, removed
from tiny_ablation.errors import GuardError


class Scores(TorchFunctionMode):
    """Within: what is added to the scores of one attention module.

    Args:
        change: gets zeros (rows, queries, keys), and gives what is to be added.
    """

    def __init__(self, change: Change) -> None:
        super().__init__()
        self._change = change
        self._inside = False

    @contextmanager
    def watching(self, attention: nn.Module) -> Iterator[None]:
        """Within: the scores of this module are changed."""

        def enter(*_: Any) -> None:
            self._inside = True

        def leave(*_: Any) -> None:
            self._inside = False

        with self, removed(attention.register_forward_pre_hook(enter)), removed(attention.register_forward_hook(leave)):
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its functions."""
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        if self._inside and name == "softmax":
            return func(*self._with_scores(args, kwargs), **kwargs)
        if self._inside and name == "scaled_dot_product_attention":
            query, key, *_ = args
            if len(args) > 3:
                raise GuardError("reference: attention is called with a mask that has no name")
            mask, causal = kwargs.get("attn_mask"), kwargs.pop("is_causal", False)
            added = self._change(query.new_zeros(query.shape[0], query.shape[2], key.shape[2]))
            kwargs["attn_mask"] = _joined(mask, added, causal=causal)
        return func(*args, **kwargs)

    def _with_scores(self, args: Any, kwargs: dict[str, Any]) -> Any:
        """The arguments of a softmax over scores (rows, heads, queries, keys and perhaps sinks), changed."""
        scores = args[0] if args else kwargs.pop("input")
        n = scores.shape[-2]
        added = self._change(scores.new_zeros(scores.shape[0], n, n))
        return (scores + nn.functional.pad(added, (0, scores.shape[-1] - n))[:, None], *args[1:])


def _joined(mask: Tensor | None, added: Tensor, *, causal: bool) -> Tensor:
    """(rows, 1 or heads, queries, keys)."""
    added = added[:, None]
    if causal:
        hidden = torch.ones(added.shape[-2:], dtype=torch.bool, device=added.device).triu(1)
        added = added.masked_fill(hidden, -torch.inf)
    if mask is None:
        return added
    return added.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask + added
