"""Mean activations over reference prompts: what mean ablation puts in.

Each token of each prompt belongs to a row (all tokens to one row, or one row for each position or template); a row is the mean
over its tokens. Costs one clean pass over the prompts, shared prefixes once, and holds one batch of activations at a time.
Sums are kept in float64. The layout does not follow the machine's settings, so neither do the means.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tiny_ablation.engine.executor import TREE_NODES
from tiny_ablation.engine.forward import Passes, Place
from tiny_ablation.engine.layout import Batch, build_batches
from tiny_ablation.engine.prompts import Prompt, sequences
from tiny_ablation.models.network import Network
from tiny_ablation.models.placed import weight_like


@dataclass(frozen=True)
class Means:
    """Means at places of the network; computed when they are first asked for.

    Attributes:
        network: the model.
        prompts: the reference prompts.
        rows: for each prompt the row of each of its tokens.
        n_rows: the number of rows; each has at least one token.
        places: where to take means.
    """

    network: Network
    prompts: Sequence[Prompt]
    rows: Sequence[Sequence[int]]
    n_rows: int
    places: Sequence[Place]

    @cached_property
    def values(self) -> dict[Place, Tensor]:
        """For each place (n_rows, units, width), in the model's precision and on its device."""
        like = weight_like(self.network.hf)
        sums: dict[Place, Tensor] = {}
        passes = Passes(self.network)
        for batch in self._batches():
            counts = self._counts(batch)
            for place, at in passes.clean(batch, self.places).at.items():
                # (n_rows, nodes) @ (nodes, units * width)
                part = counts @ at.flatten(1).double().cpu()
                sums[place] = sums[place] + part if place in sums else part
        n = torch.bincount(torch.tensor([r for rows in self.rows for r in rows]), minlength=self.n_rows)
        return {place: (total / n[:, None]).unflatten(1, (self._units(place), -1)).to(like) for place, total in sums.items()}

    def _batches(self) -> list[Batch]:
        items = sequences(self.prompts, full=False)
        return build_batches(items, lambda _e, _p: None, max_nodes=TREE_NODES, shared=True, limits=self.network.trees)

    def _counts(self, batch: Batch) -> Tensor:
        """(n_rows, nodes) float64: how many tokens of each row a node stands for."""
        counts = torch.zeros(self.n_rows, batch.n_nodes, dtype=torch.float64)
        for sequence, nodes in zip(batch.sequences, batch.nodes, strict=True):
            for row, node in zip(self.rows[sequence.example], nodes, strict=True):
                counts[row, node] += 1
        return counts

    def _units(self, place: Place) -> int:
        return self.network.shape.n_units(place[0])
