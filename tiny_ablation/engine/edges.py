"""Whether edges that are cut through the masks of a model are cut at its softmax: some models read more off their masks.

Indexers that choose which tokens are seen, or sinks beside the softmax, would choose anew. So before the first use, one token
is hidden from those behind it, block by block, on a few tokens, and the bare reference, which changes scores where PyTorch is
called, is asked the same. Costs as many short runs as there are blocks, twice.
"""

import torch

from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.edits import Cut, Edit, Intervention
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import first_line, is_out_of_memory
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.discovery import probe_ids
from tiny_ablation.models.network import Network
from tiny_ablation.models.placed import weight_like
from tiny_ablation.models.scores import refused

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
        fault = _fault(network)
    except Exception as error:  # whatever a model does that neither knows
        if is_out_of_memory(error):
            raise
        fault = first_line(error)
    if fault:
        network.edges_proven = False
        raise refused(network.model.name, fault)


def _fault(network: Network) -> str | None:
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
