"""What the parts of a model write towards an answer, and where its heads attend: read off clean runs, nothing is intervened on.

*Direct logit attribution*: with the scale of the final norm frozen at what it is in the run, logits are a sum over what the
embeddings, heads and MLPs write into the residual stream (Elhage et al. 2021, "A mathematical framework for transformer
circuits"). What later parts make of a head's output is no part of its share; it is part of the effect of ablating the head.
*Logit lens*: the logits that the residual stream behind a block would give if it were the last (nostalgebraist 2020). Logits
are taken before a model scales or caps them (Cohere, Granite, Gemma 2).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tiny_ablation.engine.norms import head_outputs
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.discovery import probe_ids
from tiny_ablation.models.hookpoints import first_tensor
from tiny_ablation.models.network import Network
from tiny_ablation.models.placed import numbers

MOST_ATTENDED = 512  # tokens of a prompt whose attention is read: the patterns of all layers are held at once


@dataclass(frozen=True)
class Reading:
    """What one clean run gives at the answer position; a difference of logits is right minus wrong."""

    lens: Float[Tensor, "n_layers"]  # the difference that the residual stream behind each block gives
    embedding: float  # the direct contribution to it of what enters the first block
    attn_out: Float[Tensor, "n_layers"]  # that of attention, its bias included; NaN where a block has none or it was not proven
    mlp_out: Float[Tensor, "n_layers"]  # that of the MLP
    heads: Float[Tensor, "n_layers n_heads"]  # that of each head
    # of a block: its heads' contributions to each logit, less their mean over the vocabulary
    promotes: Callable[[int], Float[Tensor, "n_heads d_vocab"]]
    attention: Float[Tensor, "n_layers n_heads queries keys"] | None  # None where the model gives none


@torch.inference_mode()
def read_prompt(network: Network, prompt: Prompt) -> Reading:
    """One pass over one prompt, with eager attention."""
    run, shape = _run(network, prompt), network.shape
    frozen = _frozen(network.final_norm, *run.final) if network.final_norm and run.final else lambda values: values
    # (d_model,): the unembedding of what is right less that of what is wrong, each the mean where there are several.
    right, wrong = prompt.right or prompt.target[:1], prompt.wrong or prompt.foil[:1]
    rows = numbers(network.unembed)[[*right, *wrong]]
    towards = rows[: len(right)].mean(0)
    towards = towards - rows[len(right) :].mean(0) if wrong else towards

    def by_layer(component: str) -> Float[Tensor, "n_layers"]:
        found = [run.at.get((component, layer)) for layer in range(shape.n_layers)]
        return torch.tensor([torch.nan if x is None else float(frozen(x) @ towards) for x in found])

    written = {layer: _by_head(network, layer, run) for layer in shape.layers_with("z") if ("z", layer) in run.at}
    heads = torch.full((shape.n_layers, shape.n_heads), torch.nan)
    for layer, values in written.items():
        heads[layer] = (frozen(values) @ towards).float().cpu()

    def promotes(layer: int) -> Float[Tensor, "n_heads d_vocab"]:
        logits = frozen(written[layer]) @ numbers(network.unembed).T  # read again: a copy of it is not held in between
        return (logits - logits.mean(-1, keepdim=True)).float().cpu()

    final = network.final_norm or (lambda values: values)
    return Reading(
        lens=torch.tensor([float(final(run.at["resid_post", layer]) @ towards) for layer in range(shape.n_layers)]),
        embedding=float(frozen(run.at["resid_pre", 0]) @ towards),
        attn_out=by_layer("attn_out"),
        mlp_out=by_layer("mlp_out"),
        heads=heads,
        promotes=torch.inference_mode()(promotes),
        attention=run.attention,
    )


@dataclass
class _Run:
    """What a pass gave at the last token; `final` is what the final norm was given and what it gave."""

    at: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    final: tuple[Float[Tensor, "d_model"], Float[Tensor, "d_model"]] | None = None
    attention: Float[Tensor, "n_layers n_heads queries keys"] | None = None


def _run(network: Network, prompt: Prompt) -> _Run:
    found, shape = _Run(), network.shape

    def keep_norm(_module: nn.Module, args: tuple[Any, ...], out: Float[Tensor, "... d_model"]) -> None:
        given = first_tensor(args, {})[1]
        found.final = given.flatten(0, -2)[-1].clone(), out.flatten(0, -2)[-1].clone()

    with ExitStack() as hooks:
        for layer, part in enumerate(network.parts):
            for component in ("z", "attn_out", "mlp_out", "resid_post", "resid_pre"):
                if component in part.points:
                    hook = part.points[component].on_read(_keep(found.at, (component, layer)))
                    hooks.enter_context(hook)
        if network.final_norm is not None:
            hooks.enter_context(network.final_norm.register_forward_hook(keep_norm))
        attended = hooks.enter_context(_eager(network.hf, len(prompt.ids)))
        ids = torch.tensor([prompt.ids], device=network.device)
        out = network.forward(ids, **({"output_attentions": True} if attended else {}))
    patterns = [a[0] for a in getattr(out, "attentions", None) or () if isinstance(a, Tensor) and a.dim() == 4]
    layers = shape.layers_with("z")
    square = (shape.n_heads, len(prompt.ids), len(prompt.ids))
    if attended and len(patterns) == len(layers) and all(p.shape == square for p in patterns):
        found.attention = torch.full((shape.n_layers, *square), torch.nan)
        found.attention[layers] = torch.stack(patterns).float().cpu()
    return found


def _keep(into: dict[tuple[str, int], Tensor], place: tuple[str, int]) -> Callable[[Tensor], None]:
    def hook(values: Float[Tensor, "... units width"]) -> None:
        last = values.reshape(-1, *values.shape[-2:])[-1].clone()  # some models hold all tokens as rows
        into[place] = last if place[0] == "z" else last[0]  # (n_heads, d_head), or (d_model,)

    return hook


@contextmanager
def _eager(hf: Any, width: int) -> Iterator[bool]:
    """Within: attention is computed eagerly, so that its weights can be read; yields whether they can."""
    before = hf.config._attn_implementation
    if width > MOST_ATTENDED:
        yield False
        return
    hf.config._attn_implementation = "eager"
    try:
        yield True
    finally:
        hf.config._attn_implementation = before


def _frozen(
    norm: nn.Module, given: Float[Tensor, "d_model"], gave: Float[Tensor, "d_model"]
) -> Callable[[Float[Tensor, "... d_model"]], Float[Tensor, "... d_model"]]:
    """The final norm as a linear map: its scale is what it is in the run where it was `given` this."""
    bias = getattr(norm, "bias", None)
    # RMSNorm keeps the mean of what it is given, LayerNorm takes it away.
    centred = torch.allclose(norm(given + given.abs().max()), gave, rtol=1e-3, atol=1e-4)
    centre = lambda values: values - values.mean(-1, keepdim=True) if centred else values  # noqa: E731
    scale = _scale(norm, centre(given), gave, 0.0 if bias is None else bias)
    return lambda values: centre(values) * scale


def _scale(
    module: nn.Module,
    given: Float[Tensor, "d_model"],
    gave: Float[Tensor, "d_model"],
    bias: Float[Tensor, "d_model"] | float = 0.0,
) -> Float[Tensor, "d_model"]:
    """What a run multiplied `given` by, number for number, to get `gave` less the bias.

    The quotient says little where a number is near 0. So this is one factor for all where that fits, or else what the module, a
    norm, makes of numbers of one size, that of `given`.
    """
    wanted = gave - bias
    one = (wanted @ given) / (given @ given)
    if torch.allclose(given * one, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max())):
        return one.expand_as(given)
    if not list(module.children()):
        signs = 1 - 2 * (torch.arange(len(given), device=given.device) % 2)
        level = given.pow(2).mean().sqrt() * signs
        scale = (module(level) - bias) / level
        if torch.allclose(given * scale, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max())):
            return scale
    return torch.where(given == 0, 0, wanted / given)


def _by_head(network: Network, layer: int, run: _Run) -> Float[Tensor, "n_heads d_model"]:
    """What each head adds to the residual stream, behind a norm or factor with its scale frozen."""
    z = run.at["z", layer]
    alone = head_outputs(network, layer, z[None])[:, 0]
    points = network.parts[layer].points
    if "attn_out" not in points or points["attn_out"].module is points["z"].module:
        return alone
    whole = network.hook_point("z", layer).module(z.flatten())
    return alone * _scale(points["attn_out"].module, whole, run.at["attn_out", layer])


@torch.inference_mode()
def induction_scores(network: Network, period: int = 24) -> Float[Tensor, "n_layers n_heads"]:
    """In a repeated sequence, mean attention to the token behind the earlier copy of the one at hand.

    Olsson et al. 2022, "In-context learning and induction heads"; NaN where no attention can be read.
    """
    ids = probe_ids(network.hf, period)[0].tolist()
    attention = _run(network, Prompt((*ids, *ids), (0,), (), {}, "repeated tokens")).attention
    if attention is None:
        return torch.full((network.shape.n_layers, network.shape.n_heads), torch.nan)
    return attention.diagonal(1 - period, -2, -1).mean(-1)
