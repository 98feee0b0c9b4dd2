"""Which interventions run together, and on which nodes.

A causal model computes the same states for a token whatever is changed behind it. So of a batch's nodes a pass needs only those
that an edited node can reach; the rest, keys and values included, are as in the clean pass. An edit at the answer position
needs the answers only, patching one position at a time about half of the tokens.

Interventions that begin with the same edits, such as all pairs with one head in them, share these: they are made once, in a
pass that is kept like the clean one, and what is left of each begins there.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.forward import MIN_ROWS
from tiny_ablation.engine.layout import Batch

# Leaving fewer nodes out than this share of them does not pay for taking keys and values from elsewhere.
WORTH_IT = 0.9
# Interventions that change other nodes join a pass while each is still charged for at most so many times its own.
MOST_WASTE = 1.25

Edited = Callable[[Edit], Int[Tensor, "k"] | None]


@dataclass(frozen=True)
class Share:
    """Interventions that start at one block, of one kept pass."""

    start: int  # the block
    runs: dict[int, Intervention]  # what is left to do of each, by its index in the plan
    only: Int[Tensor, "k"] | None  # the nodes that they need, ascending; None for all
    made: tuple[Edit, ...] = ()  # the edits of the pass that they start from; none for the clean one


def shares(
    plan: Mapping[int, Intervention], batch: Batch, n_layers: int, edited: Edited | None, last_start: int | None
) -> list[Share]:
    """Every intervention of the plan in one share; by the pass that they start from, and in the order of blocks.

    Args:
        plan: the interventions, by index.
        batch: what they are made on.
        n_layers: blocks of the model.
        edited: the nodes that an edit writes to, None for all; None where passes have to compute every node.
        last_start: the last block at which a pass can begin; None where every pass runs the whole model.
    """
    out = []
    for made, rest in _trunks(plan, n_layers, last_start).items():
        by_start: dict[int, dict[int, Intervention]] = {}
        for index, intervention in rest.items():
            by_start.setdefault(intervention.start, {})[index] = intervention
        for start, runs in sorted(by_start.items()):
            if edited is None:
                out.append(Share(start, runs, None, made))
            else:
                out += _by_nodes(start, made, runs, _changing_the_same(runs, batch, edited))
    return out


def runs_per_pass(plan: Sequence[Intervention], n_layers: int) -> float:
    """How many interventions start together at the same positions, on average: about what one pass holds of each prompt."""
    together = {
        (made, rest.start, *(str(edit.positions) for edit in rest.edits))
        for made, rests in _trunks(dict(enumerate(plan)), n_layers, n_layers).items()
        for rest in rests.values()
    }
    return len(plan) / max(1, len(together))


def _trunks(
    plan: Mapping[int, Intervention], n_layers: int, last_start: int | None
) -> dict[tuple[Edit, ...], dict[int, Intervention]]:
    """What is left of each intervention, by the edits that are made for several of them at once; without any first."""
    trunks: dict[tuple[Edit, ...], dict[int, Intervention]] = {(): {}}
    joined: dict[tuple[Edit, ...], dict[int, Intervention]] = {}
    for index, intervention in plan.items():
        lowest = tuple(edit for edit in intervention.edits if edit.layer == intervention.start)
        rest = tuple(edit for edit in intervention.edits if edit.layer != intervention.start)
        if rest:
            joined.setdefault(lowest, {})[index] = Intervention(rest)
        else:
            trunks[()][index] = intervention
    for lowest, rests in joined.items():
        saved = sum(rest.start - lowest[0].layer for rest in rests.values())
        # A pass that begins at or before the block of these edits would run without them.
        kept = last_start is not None and lowest[0].layer < last_start
        if kept and saved > n_layers - lowest[0].layer:  # blocks, against those of the pass that is kept
            trunks[lowest] = rests
        else:
            trunks[()] |= {index: plan[index] for index in rests}
    return trunks


def _changing_the_same(
    runs: Mapping[int, Intervention], batch: Batch, edited: Edited
) -> list[tuple[Bool[Tensor, "{batch.n_nodes}"], list[int]]]:
    """Which nodes can be changed, each choice with all interventions that can change just those."""
    touched: dict[frozenset[Hashable], list[int]] = {}  # by what the nodes of the edits depend on
    for index, intervention in runs.items():
        of_edits = ((e.positions, None if e.replacement.sources is None else id(e.replacement)) for e in intervention.edits)
        touched.setdefault(frozenset(of_edits), []).append(index)
    same: dict[bytes, tuple[Tensor, list[int]]] = {}
    for indices in touched.values():
        changed = torch.zeros(batch.n_nodes, dtype=torch.bool)
        for nodes in map(edited, runs[indices[0]].edits):
            if nodes is None:
                changed[:] = True
                break
            changed[batch.reached_from(nodes)] = True
        same.setdefault(changed.numpy().tobytes(), (changed, []))[1].extend(indices)
    return list(same.values())


def _by_nodes(
    start: int, made: tuple[Edit, ...], runs: Mapping[int, Intervention], same: list[tuple[Bool[Tensor, "nodes"], list[int]]]
) -> Iterator[Share]:
    """Shares of interventions that change about the same nodes; those that change most come first."""

    def share(indices: list[int], nodes: Bool[Tensor, "nodes"]) -> Share:
        chosen = {index: runs[index] for index in sorted(indices)}
        if nodes.sum() > WORTH_IT * len(nodes):
            return Share(start, chosen, None, made)
        # A few more where these are fewer than a matrix product needs.
        more = (~nodes).nonzero()[: max(0, MIN_ROWS - int(nodes.sum())), 0]
        return Share(start, chosen, torch.cat([nodes.nonzero()[:, 0], more]).sort().values, made)

    held: list[int] = []
    union = torch.zeros(0, dtype=torch.bool)
    for own, indices in sorted(same, key=lambda each: -int(each[0].sum())):  # the least so far
        if held and (union | own).sum() > MOST_WASTE * own.sum():
            yield share(held, union)
            held = []
        union = union | own if held else own
        held = held + indices
    if held:
        yield share(held, union)
