"""How good an autoencoder is, on text that it was not trained on.

All numbers leave out position 0 of each context, where the residual stream is an attention sink whose length would be most of
the variance. Sinks elsewhere are left in; the numbers without them, and with position 0 spliced as well, are reported too.

Costs one forward pass over the text, and four from the autoencoder's block on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.engine.forward import Passes, Writer
from tiny_ablation.engine.layout import build_batches
from tiny_ablation.engine.prompts import Read, TokenSequence
from tiny_ablation.sae.autoencoder import Autoencoder
from tiny_ablation.sae.buffer import SINK
from tiny_ablation.sae.site import read_activations

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from tiny_ablation.models.network import Network

ROWS = 2  # contexts at once: logits of every token are held, four times
BATCH_TOKENS = 512  # whose activations and features are held
MAX_LOSS_TOKENS = 8192  # of the text, for the cross-entropy: logits of every token are the dear part


@dataclass(frozen=True)
class Quality:
    """What was found."""

    numbers: dict[str, float]  # `explained_variance`, `l0`, `dead_features` (a share), `ce_recovered` and their terms
    frequency: "Tensor"  # (n_features,) the share of tokens on which each feature is active


def quality(
    network: "Network", autoencoder: Autoencoder, contexts: "np.ndarray", tick: Callable[[int], object] = lambda _: None
) -> Quality:
    """Measure an autoencoder on held-out (n, context) tokens; `tick` is called with the contexts done, of `2 n` in all."""
    import torch

    active, done = torch.zeros(autoencoder.n_features, dtype=torch.float64), 0
    values, rows = [], []  # of each token the activation; and its norm, the squared error, the number of active features
    for part in read_activations(network, autoencoder.site, torch.from_numpy(contexts).long(), BATCH_TOKENS):
        found, x = autoencoder.encode(part.flatten(0, 1)), part.flatten(0, 1).double()
        on: Tensor = found.features > 0
        error = (found.output.double() - x).pow(2).sum(-1)
        rows.append(torch.stack([x.norm(dim=-1), error, on.sum(-1).double()], 1).cpu())
        values.append(x.cpu())
        active += on.sum(0).double().cpu()
        done += len(part)
        tick(done)
    x, (norm, error, n_active) = torch.cat(values), torch.cat(rows).T
    plain, frequency = norm <= SINK * norm.median(), active / len(x)
    n_loss = max(1, min(len(contexts), MAX_LOSS_TOKENS // contexts.shape[1]))
    numbers = {
        "tokens": len(x),
        "sinks": int((~plain).sum()),
        "explained_variance": _explained(x, error),
        "explained_variance_without_sinks": _explained(x[plain], error[plain]),
        "l0": n_active.mean().item(),
        "dead_features": (frequency == 0).double().mean().item(),
        **_losses(network, autoencoder, contexts[:n_loss], lambda n: tick(len(contexts) + n)),
    }
    return Quality(numbers, frequency)


def _explained(x: "Tensor", error: "Tensor") -> float:
    """1 - squared error / variance, both summed over tokens and dimensions."""
    total = (x - x.mean(0)).pow(2).sum()
    return (1 - error.sum() / total).item() if total > 0 else float("nan")


def _losses(
    network: "Network", autoencoder: Autoencoder, contexts: "np.ndarray", tick: Callable[[int], object]
) -> dict[str, float]:
    """Mean cross-entropy of the next token, untouched, spliced and zeroed, and the share of the damage that splicing avoids."""
    import torch

    total, count = torch.zeros(5, dtype=torch.float64), 0
    for first in range(0, len(contexts), ROWS):
        rows = contexts[first : first + ROWS]
        found = _loss_sums(network, autoencoder, rows)
        total, count = total + found, count + rows[:, 2:].size
        tick(first + len(rows))
    clean, spliced, zeroed, spliced_all, zeroed_all = (total / count).tolist()

    def share(spliced: float, zeroed: float) -> float:
        return (zeroed - spliced) / (zeroed - clean) if zeroed != clean else float("nan")

    return {
        "ce": clean,
        "ce_spliced": spliced,
        "ce_zeroed": zeroed,
        "ce_recovered": share(spliced, zeroed),
        "ce_recovered_with_position_0": share(spliced_all, zeroed_all),
        "ce_tokens": count,
    }


def _loss_sums(network: "Network", autoencoder: Autoencoder, rows: "np.ndarray") -> "Tensor":
    """(5,) summed over the tokens whose prediction is made behind position 0."""
    import torch
    from torch.nn.functional import cross_entropy

    strands = [
        TokenSequence(i, tuple(ids), tuple(Read(p, (ids[p + 1],), (ids[p + 1],), False) for p in range(1, len(ids) - 1)))
        for i, ids in enumerate(rows.tolist())
    ]
    passes, site, out = Passes(network), autoencoder.site, []
    with torch.inference_mode():
        for batch in build_batches(strands, lambda row, _: row, max_nodes=rows.size, shared=False):
            target = batch.reads.tokens[:, 0].to(network.device)
            cache = passes.clean(batch)
            first = torch.zeros(batch.n_nodes, dtype=torch.bool, device=network.device)
            first[[nodes[0] for nodes in batch.nodes]] = True
            logits = passes.edited(batch, cache, site.layer, {site.place: [_four(autoencoder, first)]}, 4)
            losses = [cross_entropy(run.float(), target, reduction="none") for run in (cache.logits, *logits)]
            out.append(torch.stack([loss.double().sum().cpu() for loss in losses]))
    return torch.stack(out).sum(0)


def _four(autoencoder: Autoencoder, first: "Tensor") -> Writer:
    """Spliced and zeroed, both with the first tokens left as they are, and both at all tokens."""

    def write(x: "Tensor") -> None:
        # (4, nodes, units, width)
        own = x[0].clone()
        recon = autoencoder.encode(own.flatten(-2)).output.view_as(own)
        keep = first[:, None, None]
        x[0] = own.where(keep, recon)
        x[1] = own * keep
        x[2] = recon
        x[3] = 0

    return write
