"""Generation with the keys and values of earlier tokens, and whether a model computes the same as for whole texts."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tiny_ablation.errors import first_line, is_out_of_memory
from tiny_ablation.models.discovery import probe_ids
from tiny_ablation.models.fast import read_at
from tiny_ablation.models.judge import difference

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network

KEPT = "keys and values kept while text is written"


def continued(network: "Network", ids: Tensor, past: Any) -> tuple[Tensor, Any]:
    """Logits (rows, d_vocab) after the last token of each row, and the keys and values of all tokens so far.

    `ids`, (rows, new), follow the tokens of `past`, which the call before gave; None for the first call.
    """
    with read_at(network.unembed, lambda x: x[:, -1:]):
        out = network.forward(ids.to(network.device), use_cache=True, past_key_values=past)
    return out.logits[:, -1], out.past_key_values


@torch.inference_mode()
def fault_of_continuing(network: "Network", shortest: int, longest: int) -> str | None:
    """Why tokens must not be kept while prompts of at least `shortest` tokens are continued to `longest`; None where they may.

    Costs a pass over two texts of `longest` tokens, once by itself and once by steps.
    """
    key, fault = (shortest, longest), "the model keeps no keys and values"
    if key in network.continuing:
        return network.continuing[key]
    try:
        ids = torch.cat([probe_ids(network.hf, longest, first=first) for first in (0, longest)])
        expected = network.forward(ids).logits[:, shortest - 1 :]
        logits, past = continued(network, ids[:, :shortest], None)
        found = [logits]
        for at in range(shortest, longest):
            if past is None:
                break
            logits, past = continued(network, ids[:, at : at + 1], past)
            found.append(logits)
        else:
            fault = difference(expected, torch.stack(found, 1))
    except Exception as error:  # a model may have no such memory, or another one
        if is_out_of_memory(error):
            raise
        fault = first_line(error)
    network.continuing[key] = fault
    return fault
