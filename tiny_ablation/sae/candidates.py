"""Which features to switch off: those that write most, differ most between clean and corrupt, or matter most by gradient.

Costs one forward and one backward pass over the clean prompts, and half a forward pass over the corrupt ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiny_ablation.config.seeds import generator
from tiny_ablation.engine.edits import PositionSpec
from tiny_ablation.engine.gradients import gradients_at
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.sae.autoencoder import Autoencoder
from tiny_ablation.sae.site import activations

if TYPE_CHECKING:
    import numpy as np

    from tiny_ablation.models.network import Network

RANKINGS = ("attribution", "activation", "difference")


@dataclass(frozen=True)
class OnPrompts:
    """What each feature does on the prompts, at the positions that are touched; each (n_features,) float64."""

    frequency: "np.ndarray"  # the share of tokens on which it is active
    activation: "np.ndarray"  # the mean length of what it writes, over all tokens
    difference: "np.ndarray"  # the mean length over clean prompts minus that over corrupt ones
    attribution: "np.ndarray"  # the change of the metric that the gradient expects from switching it off, mean over examples

    @property
    def alive(self) -> "np.ndarray":
        """The features that are active at all on these prompts."""
        import numpy as np

        return np.flatnonzero(self.frequency > 0)


def on_prompts(
    network: "Network",
    autoencoder: Autoencoder,
    clean: Sequence[Prompt],
    corrupt: Sequence[Prompt],
    positions: PositionSpec,
    *,
    full: bool,
) -> OnPrompts:
    """Look at every feature on every prompt."""
    import torch

    directions = autoencoder.directions.double()
    norms = directions.norm(dim=-1)
    zero = torch.zeros_like(norms)
    active, written, attributed, tokens = zero.clone(), zero.clone(), zero.clone(), 0
    for example, x, grad in gradients_at(network, clean, autoencoder.site.place, full=full):
        at = [p for p in range(len(x)) if clean[example].covers(positions, p)]
        found = autoencoder.encode(x[at].flatten(-2))
        size = (found.features * found.gain).double()  # (tokens, n_features)
        active += (found.features > 0).sum(0)
        written += size.sum(0) * norms
        # Switching a feature off takes away what it writes.
        attributed -= (size * (grad[at].flatten(-2).double() @ directions.T)).sum(0)
        tokens += len(at)
    other, other_tokens = torch.zeros(autoencoder.n_features, dtype=torch.float64, device=network.device), 0
    for prompt in corrupt:
        at = [p for p in range(len(prompt.ids)) if prompt.covers(positions, p)]
        found = autoencoder.encode(activations(network, autoencoder.site, torch.tensor([prompt.ids]))[0, at])
        other += (found.features * found.gain).double().sum(0)
        other_tokens += len(at)
    activation = written / tokens
    difference = activation - other / max(1, other_tokens) * norms
    numbers = (active / tokens, activation, difference, attributed / len(clean))
    return OnPrompts(*(each.cpu().numpy() for each in numbers))


def choose(found: OnPrompts, n: int) -> dict[int, str]:
    """Up to `n` features, and which ranking each was taken from: the rankings take turns, the strongest first."""
    import numpy as np

    alive = found.alive
    orders = {}
    for name in RANKINGS:
        size = np.abs(getattr(found, name)[alive])
        orders[name] = [int(alive[i]) for i in np.argsort(-size, kind="stable") if size[i] > 0]
    chosen: dict[int, str] = {}
    for place in range(len(alive)):
        for name, order in orders.items():
            if len(chosen) < n and place < len(order):
                chosen.setdefault(order[place], name)
    return chosen


def random_controls(found: OnPrompts, chosen: Sequence[int], n: int, seed: int) -> list[int]:
    """Features drawn at random from the others that are active on these prompts."""
    import numpy as np

    rest = np.setdiff1d(found.alive, chosen)
    drawn = generator(seed, "sae", "random features").permutation(rest)[:n]
    return sorted(int(feature) for feature in drawn)


def matched_controls(found: OnPrompts, chosen: Sequence[int], n: int) -> list[int]:
    """For the strongest `n` of the chosen features one other each, that is active as often and writes as much."""
    import numpy as np

    rest = np.setdiff1d(found.alive, chosen)
    out: list[int] = []
    for feature in sorted(chosen, key=lambda f: -abs(found.attribution[f]))[:n]:
        free = np.setdiff1d(rest, out)
        if not len(free) or not found.frequency[feature]:
            continue
        ratios = [each[free] / each[feature] for each in (found.frequency, found.activation)]
        out.append(int(free[np.argmin(sum(np.log(ratio) ** 2 for ratio in ratios))]))
    return sorted(out)
