"""Whether attention patterns are what queries and keys make of them, so that they can be replaced through these.

Two things are tried in all blocks of the model at once, on a few tokens. With queries of zero, what a head writes must be the
plain mean of the values that it sees; a bias of positions (ALiBi) or a sink beside the scores makes it another. With queries,
keys and values of another prompt, it must be what it is in the run of that prompt; a gate or an index that reads the residual
stream makes it another. Costs a few short passes, and one more a block where single heads are to be uniform.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

from tiny_ablation.errors import ModelError
from tiny_ablation.models.discovery import probe_ids, run
from tiny_ablation.models.judge import difference
from tiny_ablation.models.network import Network
from tiny_ablation.models.watch import removed

Place = tuple[str, int]
_PARTS = ("q", "k", "v", "z")


def require_patterns(network: Network, layers: Sequence[int], *, uniform: bool) -> bool:
    """Refuse a model in which patterns cannot be replaced exactly.

    Args:
        network: the model.
        layers: whose patterns are to be replaced.
        uniform: by the uniform one; else by that of another run.

    Returns:
        Whether the query of one head can be changed without changing other heads of its block.

    Raises:
        ModelError: says which block, and why.
    """
    for layer in layers:
        for part in _PARTS:
            network.hook_point(part, layer)  # refuses, by name, what was not proven
    fault = _fault_of_uniform(network, layers) if uniform else _fault_of_others(network, layers)
    if fault:
        raise ModelError(
            f"model {network.model.name}: attention patterns cannot be {'made uniform' if uniform else 'replaced'} exactly: "
            f"{fault}; {'ablation.pattern=corrupt, ' if uniform else ''}heads and layers can be ablated instead"
        )
    return uniform and (network.shape.n_heads == 1 or _apart(network, layers))


def _apart(network: Network, layers: Sequence[int]) -> bool:
    """Whether other heads write the same where the query of the first is zero: a norm over all heads would change them."""
    ids = probe_ids(network.hf)
    clean = _seen(network, ids, layers, {})
    for layer in layers:
        changed = _seen(network, ids, [layer], {("q", layer): _without_first})
        if difference(clean["z", layer][..., 1:, :], changed["z", layer][..., 1:, :]):
            return False
    return True


def _without_first(x: Tensor) -> Tensor:
    x = x.clone()
    x[..., 0, :] = 0
    return x


def _fault_of_uniform(network: Network, layers: Sequence[int]) -> str | None:
    seen = _seen(network, probe_ids(network.hf), layers, {("q", layer): torch.zeros_like for layer in layers})
    for layer in layers:
        v, z = seen["v", layer], seen["z", layer]
        v = v.repeat_interleave(z.shape[-2] // v.shape[-2], -2)
        # All tokens before, or as many as a window holds.
        if v.shape != z.shape or all(difference(z, mean) for mean in map(partial(_means, v), range(2, v.shape[1] + 1))):
            return (
                f"with queries of zero a head of block {layer} does not give the mean of what it attends to, as where a bias "
                "of positions or a sink has a share in its attention"
            )
    return None


def _means(v: Tensor, window: int) -> Tensor:
    """(rows, tokens, heads, width): the mean over each token and those before it, at most so many."""
    return torch.stack([v[:, max(0, at + 1 - window) : at + 1].mean(1) for at in range(v.shape[1])], 1)


def _fault_of_others(network: Network, layers: Sequence[int]) -> str | None:
    ids = probe_ids(network.hf)
    other = _seen(network, probe_ids(network.hf, ids.shape[1], first=ids.shape[1]), layers, {})
    put = {(part, layer): partial(_given, other[part, layer]) for part in "qkv" for layer in layers}
    found = _seen(network, ids, layers, put)
    for layer in layers:
        if difference(other["z", layer], found["z", layer]):
            return f"with the queries, keys and values of another run a head of block {layer} does not give what it gives there"
    return None


def _given(value: Tensor, x: Tensor) -> Tensor:
    return value.to(x)


def _seen(
    network: Network, ids: Tensor, layers: Sequence[int], put: Mapping[Place, Callable[[Tensor], Tensor]]
) -> dict[Place, Tensor]:
    """What stands at each part of the layers in one pass, after what is put there."""
    seen: dict[Place, Tensor] = {}

    def write(place: Place, x: Tensor) -> None:
        if place in put:
            x.copy_(put[place](x))
        seen[place] = x.clone()

    network.tokens += ids.numel()
    with ExitStack() as stack:
        for place in ((part, layer) for layer in layers for part in _PARTS):
            stack.enter_context(removed(network.hook_point(*place).on_write(partial(write, place))))
        run(network.hf, ids)
    return seen
