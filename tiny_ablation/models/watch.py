"""One forward pass watched: what every module inside the blocks was given and gave, in the order in which they ended.

Costs one pass over a few tokens, and copies of all activations between modules for those tokens.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from torch import Tensor, nn, uint8

from tiny_ablation.models.hookpoints import first_tensor


@dataclass(frozen=True, eq=False)
class Event:
    """One call of one module; equal to itself alone."""

    name: str  # the path from the block
    module: nn.Module
    given: Tensor | None  # the first tensor that it was given, if any
    gave: Tensor | None  # the first tensor that it gave, if any
    args: tuple[Any, ...]  # as they were
    kwargs: dict[str, Any]


@dataclass
class Watched:
    """What happened inside one block."""

    block: nn.Module
    entering: Tensor | None = None  # (rows, seq, d_model) the residual stream that it was given; None if it was not called
    leaving: Tensor | None = None  # (rows, seq, d_model) what it gave
    result: Any = None  # that in the form that the block gives it
    events: list[Event] = field(default_factory=list)  # the calls of the modules inside, in the order in which they ended
    attended: list["Attended"] = field(default_factory=list)


class Attended(NamedTuple):
    """One call of the attention function that transformers' models share."""

    at: int  # how many events of the block had ended
    module: nn.Module  # the attention module
    heads: int  # query heads
    d_query: int  # width of a query
    d_value: int


@contextmanager
def watching(blocks: Sequence[nn.Module]) -> Iterator[list[Watched]]:
    """Within: forward passes are written down, block by block."""
    seen = [Watched(block) for block in blocks]
    with ExitStack() as stack:
        for watched in seen:
            for name, module in watched.block.named_modules():
                if name:
                    _watch(stack, watched, name, module)
            _watch_block(stack, watched)
        yield seen


def _watch(stack: ExitStack, watched: Watched, name: str, module: nn.Module) -> None:
    given: list[Tensor | None] = []

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given.append(_first(args, kwargs))

    def after(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        watched.events.append(Event(name, module, given.pop(), _first(output), args, kwargs))

    stack.enter_context(module.register_forward_pre_hook(before, with_kwargs=True))
    stack.enter_context(module.register_forward_hook(after, with_kwargs=True))


def _watch_block(stack: ExitStack, watched: Watched) -> None:
    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watched.entering = _first(args, kwargs)

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        watched.result = output
        watched.leaving = _first(output)

    stack.enter_context(watched.block.register_forward_pre_hook(before, with_kwargs=True))
    stack.enter_context(watched.block.register_forward_hook(after))


def _first(given: Any, kwargs: dict[str, Any] | None = None) -> Tensor | None:
    """A copy of the first tensor of what a module was given or gave; None without one."""
    args = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    try:
        return first_tensor(args, kwargs or {})[1].detach().clone()
    except KeyError:
        return None


class Shown:
    """What the blocks of a model gave in one pass."""

    def __init__(self) -> None:
        self.results: list[Any] = []  # in the form that each block gives it
        self._digest = sha256()

    def take(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        """A forward hook."""
        self.results.append(output)
        self._add(output[0] if isinstance(output, (tuple, list)) else output)

    def print(self, logits: Tensor) -> str:
        """A SHA-256 of the bits of all that was given, in order, and of the logits."""
        self._add(logits)
        return self._digest.hexdigest()

    def _add(self, x: Tensor) -> None:
        self._digest.update(x.detach().cpu().contiguous().view(uint8).numpy().tobytes())


@contextmanager
def showing(blocks: Iterable[nn.Module]) -> Iterator[Shown]:
    """Within: what the blocks give is kept."""
    shown = Shown()
    with ExitStack() as hooks:
        for block in blocks:
            hooks.enter_context(block.register_forward_hook(shown.take))
        yield shown


@contextmanager
def attention_watched(hf: Any, seen: Sequence[Watched]) -> Iterator[None]:
    """Within: calls of the shared attention function are written down as well; what it gives is zero.

    The model's numbers mean nothing meanwhile. Models whose attention is code of their own do not call it.
    """
    inside = {module: watched for watched in seen for module in watched.block.modules()}

    def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:  # noqa: ARG001 - as it is called
        watched = inside.get(module)
        if watched is not None:
            heads, d_query, d_value = query.shape[1], query.shape[-1], value.shape[-1]
            watched.attended.append(Attended(len(watched.events), module, heads, d_query, d_value))
        return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1]), None

    with attention_by(hf, "tiny_ablation_watched", attend):
        yield


@contextmanager
def attention_by(hf: Any, name: str, attend: Any) -> Iterator[None]:
    """Within: the model attends by `attend`, where it takes its attention from transformers' `AttentionInterface`."""
    from transformers import AttentionInterface

    AttentionInterface.register(name, attend)
    config = hf.config.get_text_config()
    configs = {id(c): c for c in (hf.config, config)}.values()
    before = [c._attn_implementation for c in configs]
    try:
        for c in configs:
            c._attn_implementation = name
        yield
    finally:
        for c, kept in zip(configs, before, strict=True):
            c._attn_implementation = kept
