"""Mean activations over reference prompts: what mean ablation puts in.

Each token of each prompt belongs to a row (all tokens to one row, or one row for each position or template); a row is the mean
over its tokens. Costs one clean pass over the prompts, shared prefixes once, and holds one batch of activations at a time.
Sums are kept in float64. The layout does not follow the machine's settings, so neither do the means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from tiny_ablation.engine.executor import TREE_NODES
from tiny_ablation.engine.forward import Passes, Place
from tiny_ablation.engine.layout import build_batches
from tiny_ablation.engine.prompts import Prompt, sequences
from tiny_ablation.models.network import Network
from tiny_ablation.models.placed import weight_like


@dataclass(frozen=True)
class Means:
    """Means at places of the network; computed when they are first asked for."""

    network: Network
    prompts: Sequence[Prompt]  # the reference prompts
    rows: Sequence[Sequence[int]]  # for each prompt the row of each of its tokens
    n_rows: int  # the number of rows; each has at least one token
    places: Sequence[Place]  # where to take means

    @cached_property
    def values(self) -> dict[Place, Float[Tensor, "{self.n_rows} units width"]]:
        """The means at each place, in the model's precision and on its device."""
        items, like = sequences(self.prompts, full=False), weight_like(self.network.hf)
        limits, untagged = self.network.trees, lambda _e, _p: None
        sums: dict[Place, Tensor] = {}
        passes = Passes(self.network)
        for batch in build_batches(items, untagged, max_nodes=TREE_NODES, shared=True, limits=limits):
            counts = torch.zeros(self.n_rows, batch.n_nodes, dtype=torch.float64)  # tokens of each row that a node stands for
            for sequence, nodes in zip(batch.sequences, batch.nodes, strict=True):
                for row, node in zip(self.rows[sequence.example], nodes, strict=True):
                    counts[row, node] += 1
            for place, at in passes.clean(batch, self.places).at.items():
                # (n_rows, nodes) @ (nodes, units * width)
                part = counts @ at.flatten(1).double().cpu()
                sums[place] = sums[place] + part if place in sums else part
        n = torch.bincount(torch.tensor([r for rows in self.rows for r in rows]), minlength=self.n_rows)
        units = self.network.shape.n_units
        return {place: (total / n[:, None]).unflatten(1, (units(place[0]), -1)).to(like) for place, total in sums.items()}
