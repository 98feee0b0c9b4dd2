"""Ways of computing less in a forward pass; whether a model allows each is proven in `paths`."""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tiny_ablation.models.hookpoints import HookPoint, first_tensor
from tiny_ablation.models.placed import computing
from tiny_ablation.models.proof import Parts


class TreeLimits(NamedTuple):
    """Which prompts a model computes exactly in one prefix tree."""

    nodes: float = math.inf  # the largest tree; 0 if the model computes none
    length_class: Callable[[int], Hashable] = lambda _: 0  # of a number of tokens; a pass must not mix two classes


@contextmanager
def resumed(parts: Sequence[Parts], start: int, entering: Tensor) -> Iterator[None]:
    """Within: blocks before `start` hand their input through, and `start` receives `entering`, (rows, seq, d_model)."""

    def hand_through(form: Any, *args: Any, **kwargs: Any) -> Any:
        x = first_tensor(args, kwargs)[1]
        return type(form)((x, *form[1:])) if isinstance(form, (tuple, list)) else x

    with ExitStack() as stack:
        stack.enter_context(parts[start].points["resid_pre"].attach(lambda _: entering))
        for part in parts[:start]:
            stack.enter_context(computing(part.module, partial(hand_through, part.result)))
        yield


@contextmanager
def read_at(unembed: nn.Module, select: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within: logits are computed of what `select` takes from the final residual stream only."""
    with HookPoint("", unembed, "in").attach(select):
        yield


@contextmanager
def mlp_on(mlp: nn.Module, gather: Callable[[Tensor], Tensor], scatter: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within: an MLP computes the tokens that `gather` takes; `scatter` puts them among the others, which nobody reads."""
    with HookPoint("", mlp, "in").attach(gather), HookPoint("", mlp, "out").attach(scatter):
        yield


def tree_inputs(positions: Tensor, sees: Tensor, rows: int, like: Tensor) -> dict[str, Tensor]:
    """What a model with weights like `like` is given for `rows` copies of a prefix tree.

    `positions`, (1, nodes), are those of the nodes in their prompts; `sees`, (nodes, nodes) bool, is which a node attends to.
    """
    mask = torch.zeros(sees.shape, dtype=like.dtype).masked_fill_(~sees, torch.finfo(like.dtype).min)
    return {
        "position_ids": positions.repeat(rows, 1).to(like.device),
        "attention_mask": mask.to(like.device)[None, None].expand(rows, 1, -1, -1),
    }
