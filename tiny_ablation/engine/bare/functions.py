"""What PyTorch's functions are given inside a bare model, seen and changed where they are called.

*Additions.* Whatever norm or factor stands between attention or MLP and the residual stream, it has been applied when the
model's own code adds the two. So every addition in a block is watched, and those with the residual stream on one side are the
ones meant. *Scores.* Attention scores are changed before the softmax: PyTorch's softmax, or its attention in one piece. Not
through masks that modules are given, as the engine does it, so that a fault there shows.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tiny_ablation.errors import GuardError

Change = Callable[[Tensor], Tensor]
Edges = Float[Tensor, "rows queries keys"]

_NAMES = ("add", "add_", "__add__", "__radd__", "__iadd__")


class Addition(NamedTuple):
    """One addition to the residual stream."""

    value: Tensor  # what is added
    ran: set[nn.Module]  # the modules of the block that ran since the addition before


class Additions(TorchFunctionMode):
    """Within: sees each addition to the residual stream of the blocks that are watched, and may change what is added.

    A tensor is the residual stream if it is what entered the block, or what the addition before gave.

    Attributes:
        seen: for each watched block its additions, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[nn.Module, list[Addition]] = {}
        self._changes: dict[tuple[nn.Module, int], Change] = {}
        self._block: nn.Module | None = None
        self._stream: Tensor | None = None
        self._ran: set[nn.Module] = set()

    def change(self, block: nn.Module, nth: int, change: Change) -> None:
        """Let the n-th addition of a watched block add `change` of what it adds."""
        self._changes[block, nth] = change

    @contextmanager
    def watching(self, block: nn.Module) -> Iterator[None]:
        """Within: the additions in this block are seen."""

        def enter(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._block, self._ran = block, set()
            self._stream = args[0] if args else kwargs["hidden_states"]
            self.seen[block] = []

        def leave(*_: Any) -> None:
            self._block = self._stream = None

        def note(module: nn.Module, *_: Any) -> None:
            self._ran.add(module)

        with ExitStack() as stack:
            stack.enter_context(block.register_forward_pre_hook(enter, with_kwargs=True))
            stack.enter_context(block.register_forward_hook(leave))
            for module in block.modules():
                if module is not block:
                    stack.enter_context(module.register_forward_hook(note))
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its functions."""
        if self._block is None or getattr(func, "__name__", "") not in _NAMES or len(args) != 2:
            return func(*args, **(kwargs or {}))
        at = next((i for i in (0, 1) if self._is_stream(args[i])), None)
        if at is None or not isinstance(args[1 - at], Tensor):
            return func(*args, **(kwargs or {}))
        seen, value = self.seen[self._block], args[1 - at]
        change = self._changes.get((self._block, len(seen)))
        seen.append(Addition(value, self._ran))
        self._ran = set()
        if change is not None:
            args = (args[0], change(value)) if at == 0 else (change(value), args[1])
        self._stream = func(*args, **(kwargs or {}))
        return self._stream

    def _is_stream(self, value: Any) -> bool:
        stream = self._stream
        if stream is None or not isinstance(value, Tensor):
            return False
        # A reshaped stream is another tensor over the same numbers.
        return value is stream or (value.data_ptr(), value.numel()) == (stream.data_ptr(), stream.numel())


class Scores(TorchFunctionMode):
    """Within: what is added to the scores of one attention module.

    Args:
        change: gets zeros, and gives what is to be added.
    """

    def __init__(self, change: Callable[[Edges], Edges]) -> None:
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

        with self, attention.register_forward_pre_hook(enter), attention.register_forward_hook(leave):
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


def _joined(mask: Tensor | None, added: Edges, *, causal: bool) -> Float[Tensor, "rows one_or_heads queries keys"]:
    added = added[:, None]
    if causal:
        hidden = torch.ones(added.shape[-2:], dtype=torch.bool, device=added.device).triu(1)
        added = added.masked_fill(hidden, -torch.inf)
    if mask is None:
        return added
    return added.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask + added
