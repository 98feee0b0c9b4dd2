"""The constant at a site that costs the behaviour least, learned by gradient descent.

(Li & Janson 2024, "Optimal ablation for interpretability".)

The loss is the divergence of the next-token distribution from that of the un-intervened run, KL(clean || intervened), mean over
examples. Descent begins at the mean over the prompts; what is returned is the best of all points that were passed, of the mean
and of zero, so its loss on these prompts is at most theirs. All examples count in every step, in an order that does not follow
the machine's settings. Each step costs a pass forth and back from the site's block on, for each unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from tiny_ablation.engine.edits import PositionSpec
from tiny_ablation.engine.executor import TREE_NODES
from tiny_ablation.engine.forward import Cache, Passes, Place, Values, Writer
from tiny_ablation.engine.layout import Batch, build_batches
from tiny_ablation.engine.means import Means
from tiny_ablation.engine.prompts import Prompt, sequences
from tiny_ablation.errors import NumericsError
from tiny_ablation.models.network import Network

# Tokens whose computation is kept for a step back: a block of the default model keeps about 60 kB of each.
GRAPH_TOKENS = 1024


class Learned(NamedTuple):
    """Constants of some units of one place."""

    values: Float[Tensor, "units width"]  # in the model's precision and on its device
    losses: dict[str, Float64[Tensor, "units"]]  # by `zero`, `mean` and `optimal` the loss on the prompts that were learned on
    held_out: dict[str, Float64[Tensor, "units"]]  # the same on other prompts


class _Run(NamedTuple):
    """One batch, its clean pass, and by how much each of its reads counts in the mean over examples."""

    batch: Batch
    cache: Cache
    weights: Float64[Tensor, "n_reads"]
    nodes: Int[Tensor, "k"] | None


@dataclass(frozen=True)
class Constants:
    """Learns constants at places of a network."""

    network: Network
    prompts: Sequence[Prompt]  # what they are learned on
    held_out: Sequence[Prompt]  # other prompts, on which the loss is measured as well
    places: Sequence[Place]  # where
    positions: PositionSpec = "all"  # the tokens that are replaced
    full: bool = False  # the loss is that of all tokens of teacher-forced answers

    def learn(self, place: Place, units: Sequence[int], steps: int, rate: float) -> Learned:
        """The best constant of each unit of one of `places`, each on its own.

        Args:
            place: the place.
            units: which of its units.
            steps: of Adam, all of which see all prompts.
            rate: the size of the first step, as a share of the root mean square of what the unit writes; it falls to 0.

        Raises:
            NumericsError: a loss is not finite.
        """
        with torch.inference_mode(False):
            mean = self._means.values[place][0, list(units)].clone()
            points = {"zero": torch.zeros_like(mean), "mean": mean}
            losses = {name: self._losses(place, units, at, self._runs)[0] for name, at in points.items()}
            at_zero = (losses["zero"] < losses["mean"]).to(mean.device)
            best = torch.where(at_zero[:, None], points["zero"], mean), torch.minimum(*losses.values())
            points["optimal"], losses["optimal"] = self._descend(place, units, *best, steps, rate)
            held = {name: self._losses(place, units, at, self._held_runs)[0] for name, at in points.items()}
        return Learned(points["optimal"], losses, held)

    def _descend(
        self,
        place: Place,
        units: Sequence[int],
        best: Float[Tensor, "units width"],
        least: Float64[Tensor, "units"],
        steps: int,
        rate: float,
    ) -> tuple[Float[Tensor, "units width"], Float64[Tensor, "units"]]:
        """The best of these points and of those that descent from the mean passes, and its losses."""
        mean = self._means.values[place][0, list(units)].clone()
        wide = torch.promote_types(mean.dtype, torch.float32)
        size = self._sizes[place][list(units)].to(mean.device, wide)[:, None]
        way = torch.zeros(mean.shape, dtype=wide, device=mean.device)  # from the mean, in sizes of what is written
        adam = torch.optim.Adam([way], lr=rate)
        for step in range(steps + 1):
            at = (mean + size * way).to(mean)
            losses, grad = self._losses(place, units, at, self._runs, back=step < steps)
            better = losses < least
            best = torch.where(better.to(at.device)[:, None], at.detach(), best)
            least = torch.where(better, losses, least)
            if grad is not None:
                adam.param_groups[0]["lr"] = rate * (1 - step / steps)
                way.grad = grad.to(wide) * size
                adam.step()
        return best, least

    def _losses(
        self, place: Place, units: Sequence[int], at: Float[Tensor, "units width"], runs: Sequence[_Run], *, back: bool = False
    ) -> tuple[Float64[Tensor, "units"], Float[Tensor, "units width"] | None]:
        """The loss with each unit at its constant, and its gradients if asked for."""
        losses, grads = torch.zeros(len(units), dtype=torch.float64), torch.zeros_like(at)
        for run in runs:
            clean = _log_probabilities(run.cache.logits)
            step = max(1, GRAPH_TOKENS // run.batch.n_nodes)
            for first in range(0, len(units), step):
                part = slice(first, first + step)
                with torch.set_grad_enabled(back):
                    points = at[part].clone().requires_grad_(back)
                    # One copy of the batch for each unit.
                    writers = [_putting(i, unit, run.nodes, points[i]) for i, unit in enumerate(units[part])]
                    logits = self._passes.edited(run.batch, run.cache, place[1], {place: writers}, len(writers))
                    difference = clean - _log_probabilities(logits)
                    # A token that the clean run gives minus infinity adds nothing, whatever it has here.
                    each = torch.where(clean.isneginf(), 0.0, clean.exp() * difference)
                    loss = each.sum(-1) @ run.weights.to(each)
                    if back:
                        grads[part] += torch.autograd.grad(loss.sum(), [points])[0]
                losses[part] += loss.detach().double().cpu()
        if not torch.isfinite(losses).all():
            raise NumericsError(f"blocks.{place[1]}.{place[0]}: the loss of a constant put there is not finite")
        return losses, grads if back else None

    @cached_property
    def _passes(self) -> Passes:
        return Passes(self.network)

    @cached_property
    def _runs(self) -> list[_Run]:
        return self._clean(self.prompts)

    @cached_property
    def _held_runs(self) -> list[_Run]:
        return self._clean(self.held_out)

    @torch.no_grad()
    def _clean(self, prompts: Sequence[Prompt]) -> list[_Run]:
        items, limits = sequences(prompts, full=self.full), self.network.trees
        tag = lambda e, p: prompts[e].covers(self.positions, p)  # noqa: E731
        out = []
        for batch in build_batches(items, tag, max_nodes=TREE_NODES, shared=True, limits=limits):
            of_example = torch.bincount(batch.reads.example)
            weights = 1 / (of_example[batch.reads.example].double() * len(prompts))
            out.append(_Run(batch, self._passes.clean(batch), weights, batch.select(prompts, self.positions)))
        return out

    @cached_property
    def _means(self) -> Means:
        return Means(self.network, self.prompts, [[0] * len(p.ids) for p in self.prompts], 1, self.places)

    @cached_property
    @torch.no_grad()
    def _sizes(self) -> dict[Place, Float64[Tensor, "units"]]:
        """For each place the root mean square of what its units write at the tokens that are replaced."""
        squares: dict[Place, list[Tensor]] = {place: [] for place in self.places}
        for run in self._runs:
            for place, at in self._passes.clean(run.batch, self.places).at.items():
                squares[place].append((at if run.nodes is None else at[run.nodes]).double().square().mean(-1))
        return {place: torch.cat(parts).mean(0).sqrt() for place, parts in squares.items()}


def _log_probabilities(logits: Float[Tensor, "*runs n_reads d_vocab"]) -> Float[Tensor, "*runs n_reads d_vocab"]:
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


def _putting(run: int, unit: int, nodes: Int[Tensor, "k"] | None, point: Float[Tensor, "width"]) -> Writer:
    def write(x: Values) -> None:
        if nodes is None:
            x[run, :, unit] = point
        else:
            x[run, nodes.to(x.device), unit] = point

    return write
