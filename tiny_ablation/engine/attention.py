"""Whether attention can be edited exactly: edges cut through masks, and patterns replaced through queries and keys.

*Edges.* Some models read more off their masks than their softmax does: indexers that choose which tokens are seen, or sinks
beside the softmax, would choose anew. So before the first use one token is hidden from those behind it, block by block, on a
few tokens, and the bare reference, which changes scores where PyTorch is called, is asked the same. Costs as many short runs
as there are blocks, twice.

*Patterns.* Two things are tried in all blocks of the model at once, on a few tokens. With queries of zero, what a head writes
must be the plain mean of the values that it sees; a bias of positions (ALiBi) or a sink beside the scores makes it another.
With queries, keys and values of another prompt, it must be what it is in the run of that prompt; a gate or an index that reads
the residual stream makes it another. Costs a few short passes, and one more a block where single heads are to be uniform.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from tiny_ablation.engine.bare.model import Bare, Values
from tiny_ablation.engine.edits import Cut, Edit, Intervention
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import ModelError, first_line, is_out_of_memory
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.discovery import probe_ids, run
from tiny_ablation.models.judge import difference
from tiny_ablation.models.network import Network
from tiny_ablation.models.placed import weight_like
from tiny_ablation.models.scores import refused

Place = tuple[str, int]
_PARTS = ("q", "k", "v", "z")
# Of the largest value, as in `models.judge`, and twice for two sums.
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 2e-4, torch.bfloat16: 0.2, torch.float16: 0.2}
_METRICS = ("logit_diff", "entropy")


def require_exact_edges(network: Network) -> None:
    """Refuse a model whose edges are not cut as the reference cuts them; once for each model.

    Raises:
        ModelError: with its name.
    """
    if network.edges_proven:
        return
    network.edges_proven = True  # for the executor that is judged here
    try:
        fault = _fault_of_edges(network)
    except Exception as error:  # whatever a model does that neither knows
        if is_out_of_memory(error):
            raise
        fault = first_line(error)
    if fault:
        network.edges_proven = False
        raise refused(network.model.name, fault)


def _fault_of_edges(network: Network) -> str | None:
    from tiny_ablation.engine.executor import Executor  # which asks for this

    prompt = Prompt(tuple(probe_ids(network.hf)[0].tolist()), (0,), (1,), {}, "probe")
    cut, metrics = Cut(), [metric(name) for name in _METRICS]
    plan = [Intervention((Edit("scores", layer, None, cut, keys=1),)) for layer in network.shape.layers_with("z")]
    [result] = Executor(network, [prompt], plan, metrics)
    cells = Reference(Bare(network.hf), [prompt], metrics).cells(plan, 0)
    for name in _METRICS:
        found = result.values[name][:, 0].double().cpu()
        expected = torch.tensor([cell.values[name] for cell in cells], dtype=torch.float64)
        error = (found - expected).abs().max() / expected.abs().max().clamp_min(1.0)
        if not error <= _TOLERANCE[weight_like(network.hf).dtype]:
            return f"its masks decide over more than the scores, and {name} differs by {error:.1e}"
    return None


def require_patterns(network: Network, layers: Sequence[int], *, uniform: bool) -> bool:
    """Whether the query of one head can be changed without changing other heads of its block.

    Refuses a model in which the patterns of these layers cannot be replaced exactly by the uniform one, or else by that of
    another run.

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

    def without_first(x: Values) -> Values:
        x = x.clone()
        x[..., 0, :] = 0
        return x

    ids = probe_ids(network.hf)
    clean = _seen(network, ids, layers, {})
    for layer in layers:
        changed = _seen(network, ids, [layer], {("q", layer): without_first})
        if difference(clean["z", layer][..., 1:, :], changed["z", layer][..., 1:, :]):
            return False
    return True


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


def _means(v: Values, window: int) -> Values:
    """The mean over each token and those before it, at most so many."""
    return torch.stack([v[:, max(0, at + 1 - window) : at + 1].mean(1) for at in range(v.shape[1])], 1)


def _fault_of_others(network: Network, layers: Sequence[int]) -> str | None:
    ids = probe_ids(network.hf)
    other = _seen(network, probe_ids(network.hf, ids.shape[1], first=ids.shape[1]), layers, {})
    found = _seen(network, ids, layers, {(part, layer): other[part, layer].to for part in "qkv" for layer in layers})
    for layer in layers:
        if difference(other["z", layer], found["z", layer]):
            return f"with the queries, keys and values of another run a head of block {layer} does not give what it gives there"
    return None


def _seen(
    network: Network, ids: Int[Tensor, "rows tokens"], layers: Sequence[int], put: Mapping[Place, Callable[[Values], Values]]
) -> dict[Place, Values]:
    """What stands at each part of the layers in one pass, after what is put there."""
    seen: dict[Place, Values] = {}

    def write(place: Place, x: Values) -> None:
        if place in put:
            x.copy_(put[place](x))
        seen[place] = x.clone()

    network.tokens += ids.numel()
    with ExitStack() as stack:
        for place in ((part, layer) for layer in layers for part in _PARTS):
            stack.enter_context(network.hook_point(*place).on_write(partial(write, place)))
        run(network.hf, ids)
    return seen
