"""What a person needs to make sense of a feature: where it is active, how strongly, and which tokens it promotes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiny_ablation.models.placed import weight_like
from tiny_ablation.sae.autoencoder import Autoencoder

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from tiny_ablation.models.network import Network
    from tiny_ablation.sae.candidates import OnPrompts
    from tiny_ablation.sae.text import TextFacts

N_EXAMPLES, AROUND = (8, 12)  # texts that are shown, and tokens before and after the one where the feature is strongest
N_TOKENS = 10  # promoted, and suppressed
BINS = 24


@dataclass(frozen=True)
class Shown:
    """Part of a text in which a feature is active."""

    tokens: Sequence[str]
    activations: Sequence[float]  # of the feature at each; 0 where it is not active


@dataclass(frozen=True)
class Feature:
    """One feature."""

    number: int
    chosen_by: str  # why it was measured: a ranking, or `named`
    attribution: float  # what the gradient expects from switching it off
    frequency_prompts: float  # the share of the prompts' tokens on which it is active
    difference: float  # how much more it writes on clean than on corrupt prompts
    promoted: Sequence[tuple[str, float]]  # tokens whose logits its direction raises most by direct effect, and by how much
    suppressed: Sequence[tuple[str, float]]  # those it lowers most
    histogram: Sequence[int]  # counts of its activations on the text where it is active, in equal bins from 0 to `largest`
    largest: float  # its largest activation on the text
    examples: Sequence[Shown]  # the texts where it is strongest


@dataclass(frozen=True)
class FeatureFacts:
    """What is known of the features of a run."""

    features: Sequence[Feature]  # those that are measured
    directions: "np.ndarray"  # (n_features, width) float32, of all features
    frequency: "np.ndarray"  # (n_features,) on text
    layer: int  # the autoencoder's block


def feature_facts(
    network: "Network", autoencoder: Autoencoder, text: "TextFacts", found: "OnPrompts", chosen: Mapping[int, str]
) -> FeatureFacts:
    """What features do on held-out text and on the prompts (`found`), in detail for the `chosen` ones, each with the reason."""
    vocabulary = unembedded(network, autoencoder, list(chosen))
    features = [
        Feature(
            number,
            why,
            float(found.attribution[number]),
            float(found.frequency[number]),
            float(found.difference[number]),
            _extreme(network, scores, 1),
            _extreme(network, scores, -1),
            *_on_text(network, text, number),
        )
        for (number, why), scores in zip(chosen.items(), vocabulary, strict=True)
    ]
    directions = autoencoder.directions.detach().float().cpu().numpy()
    return FeatureFacts(features, directions, text.frequency, autoencoder.site.layer)


def unembedded(network: "Network", autoencoder: Autoencoder, numbers: Sequence[int]) -> "Tensor":
    """(len(numbers), d_vocab): the logits that one unit of each direction would add, past all later layers.

    Through the weight of the final normalisation, and through the attention output where the place is in front of it; the mean
    over the vocabulary is left out, since it changes no probability.
    """
    import torch

    rows = autoencoder.directions[list(numbers)]
    with torch.no_grad():
        if autoencoder.site.component == "z":
            o = network.hook_point(*autoencoder.site.place).module
            rows = o(rows) - o(torch.zeros_like(rows))
        if (weight := getattr(network.final_norm, "weight", None)) is not None:
            rows = rows * weight.detach()
        logits = network.unembed(rows.to(weight_like(network.hf).dtype)).float()
    return (logits - logits.mean(-1, keepdim=True)).cpu()


def _extreme(network: "Network", scores: "Tensor", sign: int) -> list[tuple[str, float]]:
    best = (sign * scores).topk(min(N_TOKENS, len(scores)))
    tokenizer: Any = network.model.tokenizer
    return [(tokenizer.decode([int(i)]), round(float(scores[i]), 4)) for i in best.indices]


def _on_text(network: "Network", text: "TextFacts", number: int) -> tuple[list[int], float, list[Shown]]:
    """The histogram of a feature's activations, the largest of them, and the texts where it is strongest."""
    import torch

    tokenizer: Any = network.model.tokenizer
    at, values = text.features.indices(), text.features.values()
    mine = at[-1] == number
    rows, positions, acts = at[0][mine], at[1][mine], values[mine]
    if not len(acts):
        return [0] * BINS, 0.0, []
    largest = float(acts.max())
    histogram = torch.histc(acts.float(), BINS, 0, largest).int().tolist()
    dense = {(int(r), int(p)): float(a) for r, p, a in zip(rows, positions, acts, strict=True)}
    shown: dict[int, Shown] = {}
    for i in acts.argsort(descending=True, stable=True).tolist():
        row, position = int(rows[i]), int(positions[i])
        if row not in shown:
            ids = text.contexts[row]  # positions count from its second token
            near = range(max(0, position - AROUND), min(len(ids) - 1, position + AROUND + 1))
            tokens = [tokenizer.decode([int(ids[p + 1])]) for p in near]
            shown[row] = Shown(tokens, [round(dense.get((row, p), 0.0), 4) for p in near])
        if len(shown) == N_EXAMPLES:
            break
    return histogram, largest, list(shown.values())
