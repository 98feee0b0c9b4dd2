"""Which interventions run together, and on which nodes.

A causal model computes the same states for a token whatever is changed behind it. So of a batch's nodes a pass needs only those
that an edited node can reach; the rest, keys and values included, are as in the clean pass. An edit at the answer position
needs the answers only, patching one position at a time about half of the tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.forward import MIN_ROWS
from tiny_ablation.engine.layout import Batch

# Leaving fewer nodes out than this share of them does not pay for taking keys and values from elsewhere.
WORTH_IT = 0.9
# Interventions that change other nodes join a pass while each is still charged for at most so many times its own.
MOST_WASTE = 1.25

Edited = Callable[[Edit], Tensor | None]


@dataclass(frozen=True)
class Share:
    """Interventions that start at one block.

    Attributes:
        start: the block.
        runs: indices into the plan.
        only: (k,) the nodes that they need, ascending; None for all.
    """

    start: int
    runs: list[int]
    only: Tensor | None


def shares(plan: Sequence[Intervention], batch: Batch, edited: Edited | None) -> list[Share]:
    """Every intervention of the plan in one share, in the order of blocks.

    Args:
        plan: the interventions.
        batch: what they are made on.
        edited: the nodes that an edit writes to, None for all; None where passes have to compute every node.
    """
    by_start: dict[int, list[int]] = {}
    for index, intervention in enumerate(plan):
        by_start.setdefault(intervention.start, []).append(index)
    out = []
    for start, runs in sorted(by_start.items()):
        if edited is None:
            out.append(Share(start, runs, None))
        else:
            out += _by_nodes(start, {i: _changed(plan[i], batch, edited) for i in runs})
    return out


def _changed(intervention: Intervention, batch: Batch, edited: Edited) -> Tensor:
    """(nodes,) bool: what the intervention can change."""
    changed = torch.zeros(batch.n_nodes, dtype=torch.bool)
    for edit in intervention.edits:
        nodes = edited(edit)
        if nodes is None:
            return ~torch.zeros_like(changed)
        changed[batch.reached_from(nodes)] = True
    return changed


def _by_nodes(start: int, changed: dict[int, Tensor]) -> Iterator[Share]:
    """Shares of interventions that change about the same nodes; those that change most come first."""
    same: dict[bytes, list[int]] = {}
    for index, nodes in changed.items():
        same.setdefault(nodes.numpy().tobytes(), []).append(index)
    held: list[int] = []
    union = torch.zeros(0, dtype=torch.bool)
    for runs in sorted(same.values(), key=lambda runs: -int(changed[runs[0]].sum())):
        own = changed[runs[0]]  # the least so far
        if held and (union | own).sum() > MOST_WASTE * own.sum():
            yield _share(start, held, union)
            held = []
        union = union | own if held else own
        held = held + runs
    if held:
        yield _share(start, held, union)


def _share(start: int, runs: list[int], nodes: Tensor) -> Share:
    runs = sorted(runs)
    if nodes.sum() > WORTH_IT * len(nodes):
        return Share(start, runs, None)
    only = torch.cat([nodes.nonzero()[:, 0], (~nodes).nonzero()[: max(0, MIN_ROWS - int(nodes.sum())), 0]])
    return Share(start, runs, only.sort().values)
