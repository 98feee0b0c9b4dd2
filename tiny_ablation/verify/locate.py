"""Where in the un-intervened model the engine first differs from the reference, to say which part of it is wrong."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from tiny_ablation.engine.bare.model import Bare, Tap
from tiny_ablation.engine.forward import Passes, Place
from tiny_ablation.engine.layout import build_batches
from tiny_ablation.engine.prompts import Prompt, sequences
from tiny_ablation.models.labels import head_label
from tiny_ablation.models.network import Network

if TYPE_CHECKING:
    from torch import Tensor

# In the order of the computation.
_COMPONENTS = ("resid_pre", "z", "attn_out", "mlp_out")
_WORDS = {
    "resid_pre": "the residual stream that enters layer {layer}",
    "z": "the output of head {head}",
    "attn_out": "the attention output of layer {layer}",
    "mlp_out": "the MLP output of layer {layer}",
}
# Part of a floor, which is for logits of size 10: five times what rounding makes of a value relative to its size.
_RELATIVE = 0.5

# Shares by which a head's part may be off before it is named, and by which the others may be without spoiling it.
_NAMED, _UNEXPLAINED = 0.05, 0.1

Trace = dict[Place, "Tensor"]  # (tokens, units, width), on the CPU in double precision


@torch.inference_mode()
def trace_engine(network: Network, prompt: Prompt) -> Trace:
    """What stands at each place in the engine's own clean pass."""
    [batch] = build_batches(
        sequences([prompt], full=False), lambda _e, _p: None, max_nodes=10**9, shared=True, limits=network.trees
    )
    places = [(c, layer) for layer, part in enumerate(network.parts) for c in _COMPONENTS if c in part.points]
    cache = Passes(network).clean(batch, places)
    nodes = batch.nodes[0]
    # On the CPU first: MPS has no double precision.
    return {place: values[nodes].cpu().double() for place, values in cache.at.items()}


def trace_reference(model: Bare, prompt: Prompt, places: Iterable[Place]) -> Trace:
    """The same in the bare model, at those of `places` that it knows."""
    out: Trace = {}

    def keep(place: Place) -> Tap:
        # (tokens, units, width)
        return lambda x: out.__setitem__(place, x[0].double().cpu())

    model.run(prompt.ids, 1, {place: keep(place) for place in places if model.knows(*place)})
    return out


def first_difference(model: Bare, main: Trace, again: Trace, tolerance: float) -> str:
    """The first place where engine (`main`) and reference (`again`) differ by more than rounding relative to size, in words.

    `tolerance` is the floor of a metric.
    """
    for component, layer in sorted(again, key=lambda place: (place[1], _COMPONENTS.index(place[0]))):
        a, b = main[component, layer], again[component, layer]
        # (units,): over tokens and width, so that a unit that is small at one token does not count as off
        off = (a - b).norm(dim=(0, 2)) / b.norm(dim=(0, 2)).clamp_min(1e-30)
        if not bool((off <= _RELATIVE * tolerance).all()):
            unit = int(off.nan_to_num(torch.inf).argmax())
            words = _WORDS[component].format(layer=layer, head=head_label(layer, unit))
            heads = _heads(model, layer, main, again) if component == "attn_out" else ""
            return f"Without any intervention {words} is the first to differ, by {off[unit]:.1e} of its size{heads}"
    return (
        "Run once more without any intervention, the model agrees at every layer: the fault is not in every pass "
        "(a stale or overwritten buffer?), or in the interventions"
    )


def _heads(model: Bare, layer: int, main: Trace, again: Trace) -> str:
    """Which heads' parts of an attention output explain a difference behind the heads, in words; empty where none do.

    The difference is written as a sum of the heads' parts, by least squares. Behind a norm it is no such sum.
    """
    if ("z", layer) not in again:
        return ""
    projection, z = model.output_projection(layer), again["z", layer]
    weight = projection.get_parameter("weight").double().cpu()
    if type(projection).__name__ != "Conv1D":  # GPT-2 keeps its projections transposed; a square one is told by its class
        weight = weight.T
    parts = torch.einsum("thd,hdm->htm", z, weight.unflatten(0, z.shape[1:])).flatten(1)
    off = (main["attn_out", layer] - again["attn_out", layer]).flatten()
    share = torch.linalg.lstsq(parts.T, off[:, None]).solution[:, 0]
    if (off - share @ parts).norm() > _UNEXPLAINED * off.norm():
        return ""
    named = [f"{head_label(layer, h)} {1 + share[h]:.2f} times" for h in range(len(parts)) if abs(share[h]) > _NAMED]
    return f", as if it held {' and '.join(named)}" if named else ""
