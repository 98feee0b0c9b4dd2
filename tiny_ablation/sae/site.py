"""Where an autoencoder stands in the network, and what SAELens calls that place."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.errors import ConfigError, ModelError
from tiny_ablation.models.hookpoints import ModelShape

if TYPE_CHECKING:
    from torch import Tensor

    from tiny_ablation.models.network import Network

# Ours to SAELens' (TransformerLens') canonical names; the first of each is the one that is written.
_HOOKS = {
    "resid_post": ("hook_out", "hook_resid_post"),
    "resid_pre": ("hook_in", "hook_resid_pre"),
    "attn_out": ("hook_attn_out", "attn.hook_out"),
    "mlp_out": ("hook_mlp_out", "mlp.hook_out"),
    "z": ("attn.hook_z", "attn.o.hook_in"),
}
COMPONENTS = tuple(_HOOKS)


@dataclass(frozen=True)
class Site:
    """One activation of the network: a component of `COMPONENTS` in block `layer`, counted from 0."""

    component: str
    layer: int

    @property
    def place(self) -> tuple[str, int]:
        """As the engine names it."""
        return self.component, self.layer

    @property
    def hook_name(self) -> str:
        """As SAELens names it."""
        return f"blocks.{self.layer}.{_HOOKS[self.component][0]}"

    def width(self, shape: ModelShape) -> int:
        """Dimensions of the activation, heads side by side."""
        return shape.n_heads * shape.d_head if self.component == "z" else shape.d_model


def site_of(hook_name: str) -> Site:
    """The place that SAELens calls `hook_name`. Raises ModelError if there is no such place here."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook_name)
    for component, names in _HOOKS.items():
        if found and found[2] in names:
            return Site(component, int(found[1]))
    raise ModelError(
        f"sae: this autoencoder belongs at {hook_name}, where nothing can be spliced in here; "
        f"it must be at one of {', '.join(COMPONENTS)} of a block"
    )


def resolve_site(component: str | None, layer: int | None, shape: ModelShape) -> Site:
    """The place to train at: what is asked for, or the residual stream leaving the middle block.

    Raises:
        ConfigError: the model has no such layer.
    """
    layer = shape.n_layers // 2 if layer is None else layer
    if not 0 <= layer < shape.n_layers:
        raise ConfigError(f"sae.layer={layer}: the model has layers 0 to {shape.n_layers - 1}")
    return Site(component or "resid_post", layer)


class _Reached(Exception):
    """The place that was asked for has been computed; nothing behind it is needed."""


def activations(network: "Network", site: Site, ids: "Tensor") -> "Tensor":
    """(rows, seq, width): the activations at `site` for unpadded (rows, seq) tokens; later blocks are not run."""
    import torch

    seen = []

    def keep(values: "Tensor") -> None:
        seen.append(values.flatten(-2).clone())
        raise _Reached

    with network.hook_point(*site.place).on_read(keep), suppress(_Reached), torch.inference_mode():
        network.forward(ids.to(network.device))
    return seen[0]


def read_activations(network: "Network", site: Site, ids: "Tensor", batch_tokens: int) -> "Iterator[Tensor]":
    """`activations` of a few rows at a time, without position 0: (rows, seq - 1, width) each, in order.

    The first token of a sequence draws the attention that has nowhere else to go, and its residual stream is up to a thousand
    times as long as that of any other; it would be all that an autoencoder learns.
    """
    import torch

    from tiny_ablation.models.onednn_linear import fast_products  # imports torch

    step = max(1, batch_tokens // ids.shape[1])
    products = fast_products(network)
    for first in range(0, len(ids), step):
        with torch.inference_mode(), products.in_use():
            found = activations(network, site, ids[first : first + step])
        yield found[:, 1:]
