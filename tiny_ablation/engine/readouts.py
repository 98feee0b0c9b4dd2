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
from torch import Tensor, nn

from tiny_ablation.engine.norms import head_outputs
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.discovery import probe_ids
from tiny_ablation.models.hookpoints import first_tensor
from tiny_ablation.models.network import Network
from tiny_ablation.models.placed import numbers
from tiny_ablation.models.watch import removed

MOST_ATTENDED = 512  # tokens of a prompt whose attention is read: the patterns of all layers are held at once
_READ = ("z", "attn_out", "mlp_out", "resid_post")


@dataclass(frozen=True)
class Reading:
    """What one clean run gives at the answer position; a difference of logits is right minus wrong.

    Attributes:
        lens: (n_layers,) the difference that the residual stream behind each block gives.
        embedding: the direct contribution to it of what enters the first block.
        attn_out: (n_layers,) that of attention, its bias included; NaN where a block has none or it was not proven.
        mlp_out: (n_layers,) that of the MLP.
        heads: (n_layers, n_heads) that of each head.
        promotes: of a block, (n_heads, d_vocab): its heads' contributions to each logit, less their mean over the vocabulary.
        attention: (n_layers, n_heads, queries, keys); None where the model gives none.
    """

    lens: Tensor
    embedding: float
    attn_out: Tensor
    mlp_out: Tensor
    heads: Tensor
    promotes: Callable[[int], Tensor]
    attention: Tensor | None


@torch.inference_mode()
def read_prompt(network: Network, prompt: Prompt) -> Reading:
    """One pass over one prompt, with eager attention."""
    run = _run(network, prompt)
    frozen = _FrozenNorm(network.final_norm, *run.final) if network.final_norm and run.final else None
    towards = _towards(network, prompt)

    def direct(values: Tensor) -> Tensor:
        return (frozen(values) if frozen else values) @ towards

    def by_layer(component: str) -> Tensor:
        found = [run.at.get((component, layer)) for layer in range(shape.n_layers)]
        return torch.tensor([torch.nan if x is None else float(direct(x)) for x in found])

    shape, written = network.shape, {}
    for layer in shape.layers_with("z"):
        if ("z", layer) in run.at:
            written[layer] = _by_head(network, layer, run)
    heads = torch.full((shape.n_layers, shape.n_heads), torch.nan)
    for layer, values in written.items():
        heads[layer] = direct(values).float().cpu()

    def promotes(layer: int) -> Tensor:
        logits = (frozen(written[layer]) if frozen else written[layer]) @ _unembedding(network).T
        return (logits - logits.mean(-1, keepdim=True)).float().cpu()

    lens = [float(_normed(network, run.at["resid_post", layer]) @ towards) for layer in range(shape.n_layers)]
    return Reading(
        lens=torch.tensor(lens),
        embedding=float(direct(run.entering)),
        attn_out=by_layer("attn_out"),
        mlp_out=by_layer("mlp_out"),
        heads=heads,
        promotes=torch.inference_mode()(promotes),
        attention=run.attention,
    )


def _towards(network: Network, prompt: Prompt) -> Tensor:
    """(d_model,): the unembedding of what is right less that of what is wrong, each the mean where there are several."""
    rows = _unembedding(network)
    right, wrong = prompt.right or prompt.target[:1], prompt.wrong or prompt.foil[:1]
    towards = rows[list(right)].mean(0)
    return towards - rows[list(wrong)].mean(0) if wrong else towards


def _unembedding(network: Network) -> Tensor:
    return numbers(network.unembed)


@dataclass
class _Run:
    """What a pass gave at the last token; `final` is what the final norm was given and what it gave."""

    at: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    entering: Tensor = field(default_factory=lambda: torch.empty(0))
    final: tuple[Tensor, Tensor] | None = None
    attention: Tensor | None = None


def _run(network: Network, prompt: Prompt) -> _Run:
    found, shape = _Run(), network.shape
    with ExitStack() as hooks:
        for layer, part in enumerate(network.parts):
            for component in (*_READ, "resid_pre"):
                if component in part.points:
                    hook = part.points[component].on_read(_keep(found.at, (component, layer)))
                    hooks.enter_context(removed(hook))
        if network.final_norm is not None:
            hooks.enter_context(removed(network.final_norm.register_forward_hook(_keep_norm(found))))
        attended = hooks.enter_context(_eager(network.hf, len(prompt.ids)))
        ids = torch.tensor([prompt.ids], device=network.device)
        out = network.forward(ids, **({"output_attentions": True} if attended else {}))
    found.entering = found.at["resid_pre", 0]
    patterns = [a[0] for a in getattr(out, "attentions", None) or () if isinstance(a, Tensor) and a.dim() == 4]
    layers = shape.layers_with("z")
    square = (shape.n_heads, len(prompt.ids), len(prompt.ids))
    if attended and len(patterns) == len(layers) and all(p.shape == square for p in patterns):
        found.attention = torch.full((shape.n_layers, *square), torch.nan)
        found.attention[layers] = torch.stack(patterns).float().cpu()
    return found


def _keep(into: dict[tuple[str, int], Tensor], place: tuple[str, int]) -> Callable[[Tensor], None]:
    def hook(values: Tensor) -> None:
        last = values.reshape(-1, *values.shape[-2:])[-1].clone()  # some models hold all tokens as rows
        into[place] = last if place[0] == "z" else last[0]  # (n_heads, d_head), or (d_model,)

    return hook


def _keep_norm(into: _Run) -> Callable[..., None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        given = first_tensor(args, {})[1]
        into.final = given.flatten(0, -2)[-1].clone(), out.flatten(0, -2)[-1].clone()

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


class _FrozenNorm:
    """The final norm as a linear map: its scale is what it is in one run."""

    def __init__(self, norm: nn.Module, given: Tensor, gave: Tensor) -> None:
        bias = getattr(norm, "bias", None)
        # RMSNorm keeps the mean of what it is given, LayerNorm takes it away.
        self._centred = torch.allclose(norm(given + given.abs().max()), gave, rtol=1e-3, atol=1e-4)
        self._scale = _scale(norm, self._centre(given), gave, 0.0 if bias is None else bias)

    def _centre(self, values: Tensor) -> Tensor:
        return values - values.mean(-1, keepdim=True) if self._centred else values

    def __call__(self, values: Tensor) -> Tensor:
        return self._centre(values) * self._scale


def _scale(module: nn.Module, given: Tensor, gave: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """(d_model,): what a run multiplied `given` by, number for number, to get `gave` less the bias.

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


def _normed(network: Network, values: Tensor) -> Tensor:
    return values if network.final_norm is None else network.final_norm(values)


def _by_head(network: Network, layer: int, run: _Run) -> Tensor:
    """(n_heads, d_model): what each head adds to the residual stream, behind a norm or factor with its scale frozen."""
    z = run.at["z", layer]
    alone = head_outputs(network, layer, z[None])[:, 0]
    points = network.parts[layer].points
    if "attn_out" not in points or points["attn_out"].module is points["z"].module:
        return alone
    whole = network.hook_point("z", layer).module(z.flatten())
    return alone * _scale(points["attn_out"].module, whole, run.at["attn_out", layer])


@torch.inference_mode()
def induction_scores(network: Network, period: int = 24) -> Tensor:
    """(n_layers, n_heads): in a repeated sequence, mean attention to the token behind the earlier copy of the one at hand.

    Olsson et al. 2022, "In-context learning and induction heads"; NaN where no attention can be read.
    """
    ids = probe_ids(network.hf, period)[0].tolist()
    attention = _run(network, Prompt((*ids, *ids), (0,), (), {}, "repeated tokens")).attention
    if attention is None:
        return torch.full((network.shape.n_layers, network.shape.n_heads), torch.nan)
    return attention.diagonal(1 - period, -2, -1).mean(-1)
