"""What is timed: single heads, pairs of heads, circuits of heads, and patching of all layers and positions.

An item of a job is a few spots that are changed together in one run: zeroed, or given what a source run has there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tiny_ablation.ablations.shared.replacements import Scale, patch_from
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.metrics.readout import Metric
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.network import Network

LOGIT_DIFF = (metric("logit_diff"),)
TOP_HEADS, TO_CHOOSE_BY = 12, 12  # pairs of so many heads, the strongest on so many prompts
KEPT = (0, 1, 2, 4, 8, 16, 32, 64, 128, 192)  # heads that circuits keep


@dataclass(frozen=True)
class Spot:
    """One place that is changed.

    Attributes:
        component: `z` or `resid_pre`.
        layer: of the block.
        head: one head of `z`; None for all of it.
        position: one token; None for all.
    """

    component: str
    layer: int
    head: int | None = None
    position: int | None = None


Item = tuple[Spot, ...]


@dataclass(frozen=True)
class Job:
    """What is measured, and which part of it is timed.

    Attributes:
        prompts: what is run.
        sources: the prompts whose values are put in, token by token; empty where spots are zeroed.
        items: all that a user would ask for.
        timed: those that the engine is timed on, whose mean cost is that of all.
        looped: those of `timed` that loops are timed on, whose items all cost the same.
    """

    prompts: Sequence[Prompt]
    sources: Sequence[Prompt]
    items: Sequence[Item]
    timed: Sequence[Item]
    looped: Sequence[Item]


def job_on(
    network: Network,
    kind: str,
    clean: Sequence[Prompt],
    corrupt: Sequence[Prompt],
    layers: Sequence[int],
    top: Sequence[tuple[int, int]] = (),
) -> Job:
    """A job of one kind: `heads`, `pairs`, `circuit` or `patching`.

    Args:
        network: the model.
        kind: which.
        clean: the prompts.
        corrupt: their counterparts.
        layers: those whose items are timed.
        top: the heads of which pairs are made, as (layer, head); by default the strongest.
    """
    match kind:
        case "heads":
            items = [(Spot("z", layer, head),) for layer, head in _heads(network)]
            timed = [item for item in items if item[0].layer in layers]
            return Job(clean, [], items, timed, [item for item in timed if item[0].head == 0])
        case "pairs":
            top = top or sorted(_strongest(network, clean[:TO_CHOOSE_BY])[:TOP_HEADS])
            spots = [Spot("z", layer, head) for layer, head in top]
            items = [(a, b) for i, a in enumerate(spots) for b in spots[i + 1 :]]
            return Job(clean, [], items, items, items[:: len(items) // 3])
        case "circuit":
            strongest = _strongest(network, clean[:TO_CHOOSE_BY])
            items = [tuple(Spot("z", *head) for head in sorted(strongest[kept:])) for kept in KEPT if kept < len(strongest)]
            return Job(clean, [], items, items, items[:: max(1, len(items) // 3)])
        case "patching":
            if any(len(a.ids) != len(b.ids) for a, b in zip(clean, corrupt, strict=True)):
                raise SystemExit("patching token by token needs pairs of equal length")
            width = max(len(prompt.ids) for prompt in clean)
            items = [
                (Spot("resid_pre", layer, None, position),)
                for layer in range(network.shape.n_layers)
                for position in range(width)
            ]
            timed = [item for item in items if item[0].layer in layers]
            return Job(corrupt, clean, items, timed, timed[:: len(timed) // 3])
    raise SystemExit(f"{kind}: heads, pairs, circuit or patching")


def spread(n_layers: int, count: int) -> list[int]:
    """`count` layers, evenly spread, whose mean is the mean of all: pairs around the middle."""
    if count % 2 or not 2 <= count <= n_layers:
        raise SystemExit(f"--layers {count}: an even number from 2 to {n_layers}")
    half = [round((i + 0.5) * n_layers / count - 0.5) for i in range(count // 2)]
    return [*half, *(n_layers - 1 - layer for layer in reversed(half))]


def executor(
    network: Network,
    job: Job,
    items: Sequence[Item],
    metrics: Sequence[Metric] = LOGIT_DIFF,
    shared: bool | None = None,
    batch_tokens: int = 4096,
) -> Executor:
    """The tool's executor for these items."""
    replacement = patch_from(job.sources, job.prompts) if job.sources else Scale(0.0)
    plan = [
        Intervention(
            tuple(Edit(s.component, s.layer, s.head, replacement, "all" if s.position is None else s.position) for s in item)
        )
        for item in items
    ]
    return Executor(network, job.prompts, plan, metrics, shared=shared, batch_tokens=batch_tokens)


def _heads(network: Network) -> list[tuple[int, int]]:
    return [(layer, head) for layer in range(network.shape.n_layers) for head in range(network.shape.n_heads)]


def _strongest(network: Network, prompts: Sequence[Prompt]) -> list[tuple[int, int]]:
    """All heads, the largest mean effect first."""
    heads = _heads(network)
    job = Job(prompts, [], [], [], [])
    run = executor(network, job, [(Spot("z", layer, head),) for layer, head in heads])
    effect = torch.zeros(len(heads), dtype=torch.float64)
    for result in run:
        effect += (result.values["logit_diff"] - result.baseline["logit_diff"]).sum(1)
    return [heads[i] for i in effect.abs().argsort(descending=True).tolist()]
