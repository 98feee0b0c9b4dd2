"""The bare Hugging Face model, one unpadded prompt at a time, read and written at places.

Nothing here is taken from the engine's hook points or from TransformerLens, so that a fault there shows when the two are
compared; see `blocks` for how the parts are found. Parts that are not found are no error until one is asked for.
Costs one pass of two tokens to begin with, and a whole pass each time.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tiny_ablation.engine.bare.blocks import PROBE, Block, explore, layout_of, sizes
from tiny_ablation.engine.bare.functions import Additions, Change, Scores
from tiny_ablation.errors import GuardError, ModelError
from tiny_ablation.models.placed import weight_like

Place = tuple[str, int]  # (component, layer), as in `tiny_ablation.models.hookpoints`
Values = Float[Tensor, "rows tokens units width"]
Tap = Callable[[Values], Values | None]  # what it gives, unless None, is written back

_SPLIT = {
    "q": re.compile(r"(q|query)(_proj|_lin)?"),
    "k": re.compile(r"(k|key)(_proj|_lin)?"),
    "v": re.compile(r"(v|value)(_proj|_lin)?"),
}


class Pass(NamedTuple):
    """What one forward pass gave."""

    logits: Float[Tensor, "rows tokens d_vocab"]
    # by how much of the size of a router's logits the last chosen expert led the first that was not chosen, at the router and
    # token where it led least; infinity for a model without experts
    router: Float[Tensor, "rows"]


class _Port(NamedTuple):
    """Where a place is read and written: a module's input or output, or what a block's n-th addition adds."""

    module: nn.Module  # the module, or the block that adds
    side: str  # `in`, `out`, `add`, or `scores` of the attention that the module is
    nth: int = 0  # which addition to the residual stream
    units: Int[Tensor, "n_units width"] | None = None  # indices into the tensor's last axis; None for all of it as one unit


@dataclass
class Bare:
    """A causal language model of transformers, with places."""

    hf: Any  # the model; not changed
    tokens: int = field(default=0, init=False)  # how many token positions went into forward passes so far

    def __post_init__(self) -> None:
        self._config = self.hf.config.get_text_config()
        self._fresh = _state(self.hf)
        self._blocks = explore(self.hf)
        self.tokens += len(PROBE)
        self._routers = [router for block in self._blocks for router in block.routers]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return weight_like(self.hf).device

    def run(self, ids: Sequence[int], rows: int = 1, taps: Mapping[Place, Tap] | None = None) -> Pass:
        """One forward pass of `rows` copies of the prompt `ids`, with what is to be done at each place.

        Raises:
            ModelError: the model has no such place, or it is not known here.
            GuardError: a place was not reached exactly once.
        """
        margins: list[Float[Tensor, rows]] = []
        fired: list[Place] = []
        ports = [(place, self._port(*place), tap) for place, tap in (taps or {}).items()]
        # Additions are recognised by what enters the block, so hooks that change that come first.
        ports.sort(key=lambda entry: entry[1].side == "add")
        # Every pass begins in the state that the model was loaded in: some rotary embeddings remember longer prompts.
        for module, attributes, buffers in self._fresh:
            vars(module).clear()
            vars(module).update(attributes)
            for name, kept in buffers.items():
                module._buffers[name] = kept.clone()
        with ExitStack() as stack:
            additions = Additions()
            if any(port.side == "add" for _, port, _ in ports):
                stack.enter_context(additions)
            for place, port, tap in ports:
                write = _writer(place, port, tap, (rows, len(ids)), fired)
                stack.enter_context(_hooked(port, write, additions))
            for router in self._routers:
                hook = _router_hook(self._config, rows, margins)
                stack.enter_context(router.register_forward_pre_hook(hook))
            tokens = torch.tensor([list(ids)] * rows, device=self.device)
            self.tokens += tokens.numel()
            with torch.inference_mode():
                logits = self.hf(input_ids=tokens, use_cache=False).logits
        if sorted(fired) != sorted(place for place, *_ in ports):
            raise GuardError(f"reference: of {len(ports)} places {len(fired)} were reached")
        least = torch.stack(margins).amin(0) if margins else torch.full((rows,), torch.inf)
        return Pass(logits, least.cpu())

    def knows(self, component: str, layer: int) -> bool:
        """Whether a place was found."""
        try:
            self._port(component, layer)
        except ModelError:
            return False
        return True

    def output_projection(self, layer: int) -> nn.Module:
        """The linear map from the heads of a block to what its attention gives."""
        return self._port("z", layer).module

    def _port(self, component: str, layer: int) -> _Port:
        block = self._blocks[layer]
        unknown = ModelError(f"the reference does not know where blocks.{layer}.{component} is in this model")
        if component in ("resid_pre", "resid_post"):
            return _Port(block.module, "in" if component == "resid_pre" else "out")
        if component in ("attn_out", "mlp_out"):
            part = component.removesuffix("_out")
            if (part,) in block.adds:
                return _Port(block.module, "add", block.adds.index((part,)))
            module = block.attention if part == "attn" else block.mlp
            if block.adds != (("attn", "mlp"),) or module is None:
                raise unknown
            return _Port(module, "out")  # the two are added to each other first, as they are
        if component == "neurons":
            if not block.outside or block.routers or (block.mlp is None and len(block.outside) > 2):
                raise unknown
            down = list(block.outside.values())[-1]
            return _Port(down, "in", units=torch.arange(sizes(down)[0])[:, None])
        if component == "scores" and block.attention is not None:
            return _Port(block.attention, "scores")
        if not block.inside:
            raise unknown
        if component == "z":
            projection = list(block.inside.values())[-1]
            return _Port(projection, "in", units=torch.arange(sizes(projection)[0]).view(self._config.num_attention_heads, -1))
        found = self._qkv(block, component)
        if found is None:
            raise unknown
        return found

    def _qkv(self, block: Block, component: str) -> _Port | None:
        heads, maps = self._config.num_attention_heads, list(block.inside.values())
        named = {
            part: [m for name, m in block.inside.items() if pattern.fullmatch(name.rpartition(".")[2])]
            for part, pattern in _SPLIT.items()
        }
        width = sizes(maps[-1])[0] // heads
        if len(named["q"]) == 1:
            if len(named[component]) != 1:
                return None
            if component != "v":  # values may have another width than queries and keys
                width = sizes(named["q"][0])[1] // heads
            module = named[component][0]
            return _Port(module, "out", units=torch.arange(sizes(module)[1]).view(-1, width))
        layout = layout_of(self._config)
        if layout is None or len(maps) != 2:
            return None
        parts = layout(torch.arange(sizes(maps[0])[1]), heads, width, self._config)
        return _Port(maps[0], "out", units=parts["qkv".index(component)])


@contextmanager
def _hooked(port: _Port, write: Change, additions: Additions) -> Iterator[None]:
    """Within: `write` is applied where the port is, at each pass."""

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (write(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": write(kwargs["hidden_states"])}

    def behind(_module: nn.Module, _args: Any, output: Any) -> Any:
        return (write(output[0]), *output[1:]) if isinstance(output, tuple) else write(output)

    if port.side == "add":
        additions.change(port.module, port.nth, write)
        with additions.watching(port.module):
            yield
    elif port.side == "scores":
        with Scores(write).watching(port.module):
            yield
    elif port.side == "in":
        with port.module.register_forward_pre_hook(before, with_kwargs=True):
            yield
    else:
        with port.module.register_forward_hook(behind):
            yield


def _writer(place: Place, port: _Port, tap: Tap, shape: tuple[int, int], fired: list[Place]) -> Change:
    """Shows `tap` the values of a place by units, and puts what it gives back where they were."""

    def write(x: Tensor) -> Tensor:
        fired.append(place)
        flat = x.reshape(*shape, -1)
        units = torch.arange(flat.shape[-1])[None] if port.units is None else port.units
        new = tap(flat[..., units.to(x.device)])
        if new is None:
            return x
        out = flat.clone()
        out[..., units.to(x.device)] = new.to(out)
        return out.reshape(x.shape)

    return write


def _router_hook(config: Any, rows: int, margins: list[Float[Tensor, "rows"]]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        scores = nn.functional.linear(args[0], module.get_parameter("weight"), getattr(module, "bias", None))
        correction = getattr(module, "e_score_correction_bias", None)
        if correction is not None:
            scores = scores.sigmoid() + correction
        k = getattr(module, "top_k", None) or config.num_experts_per_tok
        if k < scores.shape[-1]:
            best = scores.topk(k + 1, -1).values
            lead = (best[..., k - 1] - best[..., k]) / scores.abs().amax(-1)
            margins.append(lead.reshape(rows, -1).amin(-1))

    return hook


def _state(hf: nn.Module) -> list[tuple[nn.Module, dict[str, Any], dict[str, Tensor]]]:
    """The attributes and buffers of the modules that have buffers and no weights, such as rotary embeddings."""
    return [
        (module, dict(vars(module)), {name: b.clone() for name, b in module._buffers.items() if b is not None})
        for module in hf.modules()
        if module._buffers and not module._parameters and not list(module.children())
    ]
