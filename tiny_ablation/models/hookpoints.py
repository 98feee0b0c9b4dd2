"""Where interventions act: named places in the plain Hugging Face network.

TransformerLens' adapters know, for every architecture, which module is "the attention output projection of block 3". This
module turns that knowledge into places that can be read and written on the plain network, at the cost of one module hook,
with the axis that the literature talks about (heads) in the open:

    z          (rows, seq, n_heads, d_head)     input of the attention output projection; a head is a slice of this
    q          (rows, seq, n_heads, d_head)     before rotary embedding
    k, v       (rows, seq, n_kv_heads, d_head)  on the grouped axis: a model with grouped queries has fewer of them
    attn_out   (rows, seq, 1, d_model)          what attention adds to the residual stream
    mlp_out    (rows, seq, 1, d_model)          what the MLP adds to the residual stream
    neurons    (rows, seq, d_mlp, 1)            input of the MLP's down projection
    resid_pre  (rows, seq, 1, d_model)          residual stream entering the block
    resid_post (rows, seq, 1, d_model)          residual stream leaving the block
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiny_ablation.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

HEAD_COMPONENTS = ("z", "q", "k", "v")
LAYER_COMPONENTS = ("attn_out", "mlp_out", "resid_pre", "resid_post")
COMPONENTS = (*HEAD_COMPONENTS, *LAYER_COMPONENTS, "neurons")


@dataclass(frozen=True)
class ModelShape:
    """The sizes that sites are counted in."""

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int

    def n_units(self, component: str) -> int:
        """How many units (heads, neurons, or 1) the component has at each layer."""
        if component in ("z", "q"):
            return self.n_heads
        if component in ("k", "v"):
            return self.n_kv_heads
        return self.d_mlp if component == "neurons" else 1


@dataclass(frozen=True)
class HookPoint:
    """One place in the network.

    Attributes:
        label: for messages, such as `blocks.3.z`.
        module: the module whose input or output is the place.
        side: `in` or `out`.
        view: gives a view (rows, seq, units, width) into the module's tensor; writing to the view writes to it.
    """

    label: str
    module: "nn.Module"
    side: str
    view: "Callable[[Tensor], Tensor]"

    def attach(self, fn: "Callable[[Tensor], Tensor | None]") -> "torch.utils.hooks.RemovableHandle":
        """Call `fn` with the module's tensor at each forward pass; what it returns (unless None) takes its place."""
        if self.side == "in":
            return self.module.register_forward_pre_hook(_pre_hook(fn), with_kwargs=True)
        return self.module.register_forward_hook(_post_hook(fn))


def _pre_hook(fn: "Callable[[Tensor], Tensor | None]") -> Callable[..., Any]:
    def hook(_module: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            new = fn(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        new = fn(kwargs["hidden_states"])
        return None if new is None else (args, {**kwargs, "hidden_states": new})

    return hook


def _post_hook(fn: "Callable[[Tensor], Tensor | None]") -> Callable[..., Any]:
    def hook(_module: "nn.Module", _args: tuple[Any, ...], output: Any) -> Any:
        is_tuple = isinstance(output, tuple)
        new = fn(output[0] if is_tuple else output)
        if new is None:
            return None
        return (new, *output[1:]) if is_tuple else new

    return hook


def find_hook_point(
    network: "nn.Module", mapping: "BlockNames", shape: ModelShape, component: str, layer: int
) -> HookPoint:
    """The place called `component` in block `layer`.

    Raises:
        ModelError: this architecture has no such place that could be hooked.
    """
    block = network.get_submodule(f"{mapping.blocks}.{layer}")
    label = f"blocks.{layer}.{component}"
    if component in ("resid_pre", "resid_post"):
        return HookPoint(label, block, "in" if component == "resid_pre" else "out", _whole)
    if component in ("attn_out", "mlp_out"):
        name = mapping.attn if component == "attn_out" else mapping.mlp
        return HookPoint(label, _submodule(block, name, label), "out", _whole)
    if component == "neurons":
        return HookPoint(label, _submodule(block, mapping.mlp_down, label), "in", _units(shape.d_mlp))
    if component == "z":
        return HookPoint(label, _submodule(block, mapping.o, label), "in", _units(shape.n_heads))
    return _qkv_point(block, mapping, shape, component, label)


def _qkv_point(
    block: "nn.Module", mapping: "BlockNames", shape: ModelShape, component: str, label: str
) -> HookPoint:
    split = {"q": mapping.q, "k": mapping.k, "v": mapping.v}[component]
    if split:
        return HookPoint(label, _submodule(block, split, label), "out", _units(shape.n_units(component)))
    joint = _submodule(block, mapping.qkv, label)
    which = "qkv".index(component)
    if mapping.qkv_interleaved:
        return HookPoint(
            label, joint, "out", lambda x: x.unflatten(-1, (shape.n_heads, 3, shape.d_head))[..., which, :]
        )
    return HookPoint(
        label, joint, "out", lambda x: x.unflatten(-1, (3, shape.n_heads, shape.d_head))[..., which, :, :]
    )


def _whole(x: "Tensor") -> "Tensor":
    return x.unsqueeze(-2)


def _units(n: int) -> "Callable[[Tensor], Tensor]":
    return lambda x: x.unflatten(-1, (n, -1))


def _submodule(block: "nn.Module", name: str | None, label: str) -> "nn.Module":
    if not name:
        raise ModelError(
            f"this model's architecture has no hook point {label}; choose another ablation.component or kind"
        )
    return block.get_submodule(name)


@dataclass(frozen=True)
class BlockNames:
    """Names of the parts, as dotted paths: `blocks` and `unembed` from the model, the rest from one block."""

    blocks: str
    unembed: str
    attn: str
    o: str | None
    q: str | None
    k: str | None
    v: str | None
    qkv: str | None
    qkv_interleaved: bool
    mlp: str | None
    mlp_down: str | None


def block_names(adapter: Any) -> BlockNames:
    """Read the names off a TransformerLens architecture adapter.

    Raises:
        ModelError: the architecture has no plain stack of attention blocks.
    """
    top = adapter.component_mapping
    parts = getattr(top.get("blocks"), "submodules", None) or {}
    if "attn" not in parts or "unembed" not in top:
        raise ModelError(
            f"model: {type(adapter).__name__} describes no stack of blocks with attention and an unembedding; "
            "this tool works on decoder-only transformers"
        )
    attn, mlp = parts["attn"], parts.get("mlp")

    def inside(parent: Any, key: str) -> str | None:
        child = (getattr(parent, "submodules", None) or {}).get(key)
        return f"{parent.name}.{child.name}" if child is not None and child.name else None

    joint = inside(attn, "qkv")
    return BlockNames(
        blocks=top["blocks"].name, unembed=top["unembed"].name, attn=attn.name, o=inside(attn, "o"),
        q=None if joint else inside(attn, "q"), k=None if joint else inside(attn, "k"),
        v=None if joint else inside(attn, "v"), qkv=joint,
        qkv_interleaved="NeoX" in type(adapter).__name__ or "Neox" in type(adapter).__name__,
        mlp=mlp.name if mlp is not None else None, mlp_down=inside(mlp, "out") if mlp is not None else None,
    )  # fmt: skip
