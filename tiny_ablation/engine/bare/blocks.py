"""The parts of each block of a bare model, found by running two tokens through it.

- The blocks are the list of modules that is as long as the config says the model has layers.
- A linear map's place in the order of calls says what it is: the last one inside the attention is its output projection, the
  last one of the MLP its down projection.
- What an addition to the residual stream adds is told by which modules ran before it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tiny_ablation.engine.bare.additions import Addition, Additions, removed
from tiny_ablation.errors import ModelError
from tiny_ablation.models.placed import weight_like

PROBE = (1, 2)  # the tokens that are run

_ATTENTION = re.compile(r"(?<!linear_)(self_?)?att(n|ention)$")
_ROUTER = re.compile(r"(^|\.)(gate|router)$")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        module: the block itself.
        attention: its attention; None for a block without.
        mlp: the child that holds the MLP; None where its linear maps stand in the block itself.
        inside: the attention's linear maps by name, in the order of their calls.
        outside: those of the MLP, likewise.
        adds: for each addition to the residual stream which parts it adds, such as `("attn",)` or `("attn", "mlp")`.
        routers: the modules that choose experts.
    """

    module: nn.Module
    attention: nn.Module | None
    mlp: nn.Module | None
    inside: dict[str, nn.Module]
    outside: dict[str, nn.Module]
    adds: tuple[tuple[str, ...], ...]
    routers: tuple[nn.Module, ...]


@torch.inference_mode()
def explore(hf: Any) -> list[Block]:
    """The blocks of a causal language model, first to last.

    Raises:
        ModelError: there is no list of blocks.
    """
    called: list[nn.Module] = []
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, _args: Any, output: Any) -> None:
        outputs[module] = (output[0] if isinstance(output, tuple) else output).clone()

    config = hf.config.get_text_config()
    blocks = _find(hf, config.num_hidden_layers)
    with ExitStack() as stack:
        additions = stack.enter_context(Additions())
        for module in filter(is_linear, hf.modules()):
            stack.enter_context(removed(module.register_forward_hook(lambda m, *_: called.append(m))))
        for block in blocks:
            stack.enter_context(additions.watching(block))
            for child in block.children():
                stack.enter_context(removed(child.register_forward_hook(keep)))
        hf(input_ids=torch.tensor([PROBE], device=weight_like(hf).device), use_cache=False)
    return [_describe(block, called, additions.seen.get(block, []), outputs, config) for block in blocks]


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear map with a weight of its own."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def sizes(module: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear map; GPT-2's `Conv1D` has its weight the other way round."""
    rows, columns = module.get_parameter("weight").shape
    return (rows, columns) if type(module).__name__ == "Conv1D" else (columns, rows)


def _find(hf: nn.Module, n_layers: int) -> list[nn.Module]:
    found = [
        list(module)
        for module in hf.modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers and _has_matrix(module[0])
    ]
    if not found:
        raise ModelError(f"reference: the model has no list of {n_layers} blocks")
    return max(found, key=lambda blocks: sum(p.numel() for block in blocks for p in block.parameters()))


def _has_matrix(module: nn.Module) -> bool:
    return any(p.dim() > 1 for p in module.parameters())


def _describe(
    block: nn.Module, called: Sequence[nn.Module], seen: Sequence[Addition], outputs: Mapping[nn.Module, Tensor], config: Any
) -> Block:
    attention = _only([m for name, m in block.named_children() if _ATTENTION.search(name) and _has_matrix(m)])
    mlp = _only([m for m in block.children() if m is not attention and not is_linear(m) and _has_matrix(m)])
    inner, names = _names(attention), _names(block)
    # Linear maps that stand in the block itself are the MLP's where no child is one.
    theirs = set(_names(mlp)) if mlp is not None else set(names) - set(inner)
    outside = {names[m]: m for m in called if m in theirs}
    parts = {"attn": attention, "mlp": mlp}
    adds = tuple(_label(seen, parts, outputs, set(outside.values())))
    inside = {inner[m]: m for m in called if m in inner}
    return Block(block, attention, mlp, inside, outside, adds, _routers(names, config))


def _only(modules: list[nn.Module]) -> nn.Module | None:
    return modules[0] if len(modules) == 1 else None


def _names(module: nn.Module | None) -> dict[nn.Module, str]:
    return {} if module is None else {m: name for name, m in module.named_modules()}


def _label(
    seen: Sequence[Addition], parts: Mapping[str, nn.Module | None], outputs: Mapping[nn.Module, Tensor], loose: set[nn.Module]
) -> Iterator[tuple[str, ...]]:
    """Which parts each addition adds: what ran since the one before; of two, the one that gave what is added, or both."""
    # A module that adds within itself ends after its addition, so only what holds weights of its own says that a part ran.
    modules = {name: _matrices(module) if module is not None else loose for name, module in parts.items()}
    given = {name: outputs[module] for name, module in parts.items() if module is not None and module in outputs}
    waiting: list[str] = []
    for addition in seen:
        waiting += [name for name, own in modules.items() if own & addition.ran and name not in waiting]
        added = tuple(waiting)
        if len(waiting) > 1:
            alone = [(name,) for name in waiting if name in given and _alike(given[name], addition.value)]
            both = len(given) > 1 and _alike(sum(given.values(), torch.zeros(())), addition.value)
            added = alone[0] if alone else added if both else ()
        waiting = [name for name in waiting if name not in added]
        yield added


def _matrices(module: nn.Module) -> set[nn.Module]:
    return {m for m in module.modules() if any(p.dim() > 1 for p in m.parameters(recurse=False))}


def _alike(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.reshape(b.shape), b, rtol=1e-3, atol=1e-5 * float(b.abs().max()))


def _routers(names: Mapping[nn.Module, str], config: Any) -> tuple[nn.Module, ...]:
    """The modules with one row of weights for each expert."""
    n = next((n for key in _EXPERTS if isinstance(n := getattr(config, key, None), int)), 0)
    found = (m for m, name in names.items() if _ROUTER.search(name))
    return tuple(m for m in found if isinstance(w := getattr(m, "weight", None), Tensor) and w.shape[0] == n)
