"""Ways of computing less in a forward pass; whether a model allows each is proven in `paths`."""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tiny_ablation.models.hookpoints import HookPoint, first_tensor
from tiny_ablation.models.placed import computing
from tiny_ablation.models.proof import Parts
from tiny_ablation.models.watch import removed


class TreeLimits(NamedTuple):
    """Which prompts a model computes exactly in one prefix tree.

    Attributes:
        nodes: how many nodes a tree may have; 0 where the model computes none.
        length_class: of a prompt's number of tokens; prompts of two classes must not share a pass of any form.
    """

    nodes: float = math.inf
    length_class: Callable[[int], Hashable] = lambda _: 0


@contextmanager
def resumed(parts: Sequence[Parts], start: int, entering: Tensor) -> Iterator[None]:
    """Within: blocks before `start` hand their input through, and `start` receives `entering`, (rows, seq, d_model)."""
    with ExitStack() as stack:
        stack.enter_context(removed(parts[start].points["resid_pre"].attach(lambda _: entering)))
        for part in parts[:start]:
            stack.enter_context(_handing_through(part))
        yield


@contextmanager
def _handing_through(part: Parts) -> Iterator[None]:
    form = part.result

    def forward(*args: Any, **kwargs: Any) -> Any:
        x = first_tensor(args, kwargs)[1]
        return type(form)((x, *form[1:])) if isinstance(form, (tuple, list)) else x

    with computing(part.module, forward):
        yield


@contextmanager
def read_at(unembed: nn.Module, select: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within: logits are computed of what `select` takes from the final residual stream only."""
    with removed(HookPoint("", unembed, "in").attach(select)):
        yield


@contextmanager
def mlp_on(mlp: nn.Module, gather: Callable[[Tensor], Tensor], scatter: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within: an MLP computes the tokens that `gather` takes; `scatter` puts them among the others, which nobody reads."""
    with removed(HookPoint("", mlp, "in").attach(gather)), removed(HookPoint("", mlp, "out").attach(scatter)):
        yield


def tree_inputs(positions: Tensor, sees: Tensor, rows: int, like: Tensor) -> dict[str, Tensor]:
    """What a model is given for `rows` copies of a prefix tree.

    Args:
        positions: (1, nodes) the position of each node in its prompt.
        sees: (nodes, nodes) bool, which nodes a node attends to.
        rows: how many copies.
        like: a weight of the model.
    """
    mask = torch.zeros(sees.shape, dtype=like.dtype).masked_fill_(~sees, torch.finfo(like.dtype).min)
    return {
        "position_ids": positions.repeat(rows, 1).to(like.device),
        "attention_mask": mask.to(like.device)[None, None].expand(rows, 1, -1, -1),
    }
