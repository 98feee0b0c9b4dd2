"""Gaussian noise on the embeddings of marked tokens, the same for an example and draw wherever it runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tiny_ablation.config.seeds import generator
from tiny_ablation.engine.edits import Edit, Intervention, Lookup, Replacement
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.placed import numbers, weight_like

if TYPE_CHECKING:
    from torch import Tensor

    from tiny_ablation.models.network import Network


@dataclass(frozen=True, eq=False)
class Noise(Replacement):
    """The run's own value plus noise."""

    lookup: Lookup | None
    name = "noise"

    def value(self, current: "Tensor", source: "Tensor | None", edit: Edit) -> "Tensor":  # noqa: ARG002
        """See `Replacement.value`."""
        assert source is not None
        return current + source


@dataclass(frozen=True, eq=False)
class Draws(Lookup):
    """One draw of noise for each marked token of each prompt; other tokens take row 0, which is zero."""

    network: "Network"
    prompts: Sequence[Prompt]
    mark: str  # the name of the tokens
    scale: float  # the standard deviation, in standard deviations of the embedding matrix
    seed: int  # the run's seed; with the prompt's name and `draw` it decides the noise
    draw: int  # which draw

    def row(self, example: int, position: int) -> int:
        """See `Lookup.row`."""
        return self._rows.get((example, position), 0)

    def values(self, component: str, layer: int) -> "Tensor":  # noqa: ARG002
        """See `Lookup.values`; the noise is the same wherever it is asked for."""
        return self._table

    @cached_property
    def _rows(self) -> dict[tuple[int, int], int]:
        marked = [(e, position) for e, prompt in enumerate(self.prompts) for position in prompt.marks[self.mark]]
        return {key: row for row, key in enumerate(marked, start=1)}

    @cached_property
    def _table(self) -> "Tensor":
        """(1 + marked tokens, 1, d_model)."""
        import torch

        weight = numbers(self.network.hf.get_input_embeddings())
        rows = [torch.zeros(1, weight.shape[1], dtype=torch.float64)]
        for prompt in self.prompts:
            draws = generator(self.seed, "noise", prompt.name, self.draw)
            rows.append(torch.from_numpy(draws.standard_normal((len(prompt.marks[self.mark]), weight.shape[1]))))
        noise = torch.cat(rows) * self.scale * weight.detach().double().std()
        return noise[:, None].to(weight_like(self.network.hf))


def noise_on(network: "Network", prompts: Sequence[Prompt], mark: str, scale: float, seed: int, draw: int) -> Intervention:
    """Noise on the marked tokens where they enter the first block."""
    return Intervention((Edit("resid_pre", 0, None, Noise(Draws(network, prompts, mark, scale, seed, draw)), mark),))
