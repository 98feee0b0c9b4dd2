"""What features do on held-out text: how often they are active, how strongly, and where most.

Costs one forward pass over the text up to the autoencoder; for autoencoders that were not trained here also the cost of
`tiny_ablation.sae.quality`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.schema import SaeConfig
from tiny_ablation.models.sources.progress import byte_bar
from tiny_ablation.sae.autoencoder import Autoencoder
from tiny_ablation.sae.contexts import contexts as cut_contexts
from tiny_ablation.sae.quality import quality
from tiny_ablation.sae.site import read_activations
from tiny_ablation.sae.trained import HELD_OUT

if TYPE_CHECKING:
    import numpy as np

    from tiny_ablation.models.network import Network


@dataclass(frozen=True)
class TextFacts:
    """Features on text, without position 0."""

    contexts: "np.ndarray"  # (n, context) tokens
    features: Any  # (n, context - 1, n_features) sparse COO, the activation of each feature at each token but the first
    frequency: "np.ndarray"  # (n_features,) the share of tokens on which it is active
    mean_active: "np.ndarray"  # (n_features,) the mean activation where it is active; 0 where it never is
    quality: dict[str, Any]  # see `tiny_ablation.sae.quality.Quality`


def text_facts(network: "Network", autoencoder: Autoencoder, cfg: SaeConfig, seed: int, tokens: int) -> TextFacts:
    """Run `tokens` tokens of held-out text through the autoencoder.

    The text is what was held out when the autoencoder was trained here, else some of `sae.corpus`.
    """
    import torch
    from safetensors.numpy import load_file

    own = Path(autoencoder.source) / HELD_OUT
    if own.is_file():
        held_out = load_file(own)["contexts"]
    else:
        some = replace(cfg, tokens=cfg.context, held_out=min(cfg.held_out, tokens))
        held_out = cut_contexts(network, some, seed).held_out
    contexts = held_out[: max(1, tokens // held_out.shape[1])]
    parts = []
    ids = torch.from_numpy(contexts).long()
    for x in read_activations(network, autoencoder.site, ids, contexts.shape[1]):
        parts.append(autoencoder.encode(x.flatten(0, 1)).features.cpu().unflatten(0, x.shape[:2]).to_sparse())
    features = torch.cat(parts).coalesce()
    count = torch.zeros(autoencoder.n_features, dtype=torch.float64)
    total = torch.zeros_like(count)
    which = features.indices()[-1]
    count.index_add_(0, which, torch.ones(len(which), dtype=torch.float64))
    total.index_add_(0, which, features.values().double())
    n = features.shape[0] * features.shape[1]
    mean = total / count.clamp_min(1)
    known = autoencoder.trained.get("quality")
    if not known:
        with byte_bar("quality of the autoencoder", 2 * len(held_out)) as tick:
            known = quality(network, autoencoder, held_out, tick).numbers
    return TextFacts(contexts, features, (count / n).numpy(), mean.numpy(), known)
