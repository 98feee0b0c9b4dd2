"""Where interventions act: named places in the plain Hugging Face network.

A place is the input or output of a module, read and written by one module hook, with heads as an axis of their own:

    z          (rows, seq, n_heads, d_head)     input of the attention output projection; a head is a slice of this
    q          (rows, seq, n_heads, d_head)     as the projection gives it, before norms and rotary embedding
    k, v       (rows, seq, n_kv_heads, d_head)  on the grouped axis: a model with grouped queries has fewer of them
    attn_out   (rows, seq, 1, d_model)          what attention adds to the residual stream
    mlp_out    (rows, seq, 1, d_model)          what the MLP adds to the residual stream
    neurons    (rows, seq, d_mlp, 1)            input of the MLP's down projection
    resid_pre  (rows, seq, 1, d_model)          residual stream entering the block
    resid_post (rows, seq, 1, d_model)          residual stream leaving the block

Attention scores before the softmax can be written to as well, though no module hands them on; see `scores`.

`attn_out` and `mlp_out` are what is added: after a norm (Gemma 2 and 3, OLMo 2) and a factor (Granite), if the architecture
has one between the sub-layer and the residual stream. Which modules these are is found and proven; see `discovery`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

HEAD_COMPONENTS = ("z", "q", "k", "v")
LAYER_COMPONENTS = ("attn_out", "mlp_out", "resid_pre", "resid_post")
COMPONENTS = (*HEAD_COMPONENTS, *LAYER_COMPONENTS, "neurons")


@dataclass(frozen=True)
class ModelShape:
    """The sizes that sites are counted in; heads and neurons of one block."""

    n_layers: int
    n_heads: int  # query heads
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    # The blocks that have a component, where not all do: hybrids have blocks without attention.
    layers: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def layers_with(self, component: str) -> list[int]:
        """The blocks that have the component, ascending."""
        return list(self.layers.get(component, range(self.n_layers)))

    def heads(self) -> list[tuple[int, int]]:
        """(layer, head) of every head."""
        return [(layer, head) for layer in self.layers_with("z") for head in range(self.n_heads)]

    def n_units(self, component: str) -> int:
        """How many units (heads, neurons, or 1) the component has at each layer."""
        if component in ("z", "q"):
            return self.n_heads
        if component in ("k", "v"):
            return self.n_kv_heads
        return self.d_mlp if component == "neurons" else 1

    def width(self, component: str) -> int:
        """How many numbers the component has at each layer and token, over all its units."""
        units = self.n_units(component)
        return units if component == "neurons" else self.d_model if units == 1 else units * self.d_head


@dataclass(frozen=True)
class HookPoint:
    """One place in the network."""

    label: str  # for messages, such as `blocks.3.z`
    module: "nn.Module"  # whose input or output is the place
    side: str  # `in` or `out`
    units: "Tensor | None" = None  # (units, width) entries of the last axis of each unit; None for one unit of all entries
    factor: "float | Tensor" = 1.0  # by which the model multiplies the values: a number, or one for each entry of the last axis

    def attach(self, fn: "Callable[[Tensor], Tensor | None]") -> "torch.utils.hooks.RemovableHandle":
        """Call `fn` with the module's tensor at each forward pass; what it returns (unless None) takes its place."""

        def before(_module: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            key, x = first_tensor(args, kwargs)
            new = fn(x)
            if new is None:
                return None
            if isinstance(key, str):
                return args, {**kwargs, key: new}
            return (*args[:key], new, *args[key + 1 :]), kwargs

        def after(_module: "nn.Module", _args: tuple[Any, ...], output: Any) -> Any:
            several = isinstance(output, (tuple, list))
            new = fn(output[0] if several else output)
            if new is None:
                return None
            return type(output)((new, *output[1:])) if several else new

        if self.side == "in":
            return self.module.register_forward_pre_hook(before, with_kwargs=True)
        return self.module.register_forward_hook(after)

    def on_read(self, fn: "Callable[[Tensor], object]") -> "torch.utils.hooks.RemovableHandle":
        """Call `fn` with the values, (rows, seq, units, width), at each forward pass; it must not change them."""

        def hook(x: "Tensor") -> None:
            fn(self.values(x))

        return self.attach(hook)

    def on_write(self, fn: "Callable[[Tensor], object]") -> "torch.utils.hooks.RemovableHandle":
        """Call `fn` with a copy of the values at each forward pass; what it leaves in it takes their place.

        Values that it does not change stay the same to the last bit.
        """
        import torch

        def hook(x: "Tensor") -> "Tensor":
            if self._as_it_is and self._is_view:
                new = x.clone(memory_format=torch.contiguous_format)
                fn(self.values(new))
                return new
            old = self.values(x)
            values = old.clone()
            fn(values)
            # What is unchanged keeps its bits, and gradients reach `values` all the same.
            part = x.unsqueeze(-2) if self.units is None else x[..., self.units.to(x.device)]
            factor = self._factor(x)
            part = torch.where(values == old, part + (values - old) / factor, values / factor)
            if self.units is None:
                return part.squeeze(-2)
            new = x.clone()
            new[..., self.units.to(x.device)] = part
            return new

        return self.attach(hook)

    def values(self, x: "Tensor") -> "Tensor":
        """(rows, seq, units, width) of the module's tensor: a view of it where that is possible."""
        if self.units is None:
            found = x.unsqueeze(-2)
        elif self._is_view:
            found = x[..., self._first : self._first + self.units.numel()].unflatten(-1, self.units.shape)
        else:
            found = x[..., self.units.to(x.device)]
        return found if self._as_it_is else found * self._factor(x)

    @property
    def _as_it_is(self) -> bool:
        return isinstance(self.factor, (int, float)) and self.factor == 1

    def _factor(self, like: "Tensor") -> "float | Tensor":
        return self.factor if isinstance(self.factor, (int, float)) else self.factor.to(like)

    @cached_property
    def _first(self) -> int:
        return int(self.units[0, 0]) if self.units is not None else 0

    @cached_property
    def _is_view(self) -> bool:
        """Whether the units are consecutive entries of the last axis."""
        return self.units is None or bool((self.units.flatten().diff() == 1).all())


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int | str, "Tensor"]:
    """The first tensor that a module was given, and its position or name; `hidden_states` before others.

    Raises:
        KeyError: it was given none.
    """
    import torch

    named = {"hidden_states": kwargs.get("hidden_states"), **kwargs}
    for key, value in (*enumerate(args), *named.items()):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return key, value
    raise KeyError("hidden_states")
