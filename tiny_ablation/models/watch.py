"""One forward pass watched: what every module inside the blocks was given and gave, in the order in which they ended.

Costs one pass over a few tokens, and copies of all that stands between modules for those tokens.
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
    """One call of one module; equal to itself alone.

    Attributes:
        name: its path from the block.
        module: the module.
        given: the first tensor that it was given, if any.
        gave: the first tensor that it gave, if any.
        args: all that it was given by position, as it was.
        kwargs: all that it was given by name, as it was.
    """

    name: str
    module: nn.Module
    given: Tensor | None
    gave: Tensor | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class Watched:
    """What happened inside one block.

    Attributes:
        block: the block.
        entering: (rows, seq, d_model) the residual stream that it was given, if it was called at all.
        leaving: (rows, seq, d_model) what it gave.
        result: that in the form that the block gives it.
        calls: how often it was called.
        events: the calls of the modules inside it, in the order in which they ended.
        attended: the calls of the attention function that transformers' models share: after how many events, and with what.
    """

    block: nn.Module
    entering: Tensor | None = None
    leaving: Tensor | None = None
    result: Any = None
    calls: int = 0
    events: list[Event] = field(default_factory=list)
    attended: list["Attended"] = field(default_factory=list)


class Attended(NamedTuple):
    """One call of the shared attention function.

    Attributes:
        at: how many events of the block had ended.
        module: the attention module.
        heads: query heads.
        kv_heads: key and value heads.
        d_query: width of a query.
        d_value: width of a value.
    """

    at: int
    module: nn.Module
    heads: int
    kv_heads: int
    d_query: int
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
            stack.enter_context(removed(_enter(watched)))
            stack.enter_context(removed(_leave(watched)))
        yield seen


@contextmanager
def removed(handle: Any) -> Iterator[None]:
    """A hook that is gone afterwards, whatever happens."""
    try:
        yield
    finally:
        handle.remove()


def _watch(stack: ExitStack, watched: Watched, name: str, module: nn.Module) -> None:
    given: list[Tensor | None] = []

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given.append(_first(args, kwargs))

    def after(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        gave = _first(tuple(output) if isinstance(output, (tuple, list)) else (output,), {})
        watched.events.append(Event(name, module, given.pop(), gave, args, kwargs))

    stack.enter_context(removed(module.register_forward_pre_hook(before, with_kwargs=True)))
    stack.enter_context(removed(module.register_forward_hook(after, with_kwargs=True)))


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    try:
        return first_tensor(args, kwargs)[1].detach().clone()
    except KeyError:
        return None


def _enter(watched: Watched) -> Any:
    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watched.calls += 1
        watched.entering = _first(args, kwargs)

    return watched.block.register_forward_pre_hook(before, with_kwargs=True)


def _leave(watched: Watched) -> Any:
    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        watched.result = output
        watched.leaving = _first(tuple(output) if isinstance(output, (tuple, list)) else (output,), {})

    return watched.block.register_forward_hook(after)


class Shown:
    """What the blocks of a model gave in one pass.

    Attributes:
        results: what each gave, in the form that it gives it.
    """

    def __init__(self) -> None:
        self.results: list[Any] = []
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
            hooks.enter_context(removed(block.register_forward_hook(shown.take)))
        yield shown


@contextmanager
def attention_watched(hf: Any, seen: Sequence[Watched]) -> Iterator[None]:
    """Within: calls of the shared attention function are written down as well; what it gives is zero.

    The model's numbers mean nothing meanwhile. Models whose attention is code of their own do not call it.
    """
    inside = {module: watched for watched in seen for module in watched.block.modules()}

    def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
        watched = inside.get(module)
        if watched is not None:
            sizes = (query.shape[1], key.shape[1], query.shape[-1], value.shape[-1])
            watched.attended.append(Attended(len(watched.events), module, *sizes))
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
