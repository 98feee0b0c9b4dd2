"""The parts of each block of a bare model, found by running two tokens through it.

- The blocks are the list of modules that is as long as the config says the model has layers.
- A linear map's place in the order of calls says what it is: the last one inside the attention is its output projection, the
  last one of the MLP its down projection.
- Which modules ran before an addition to the residual stream says what it adds.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from tiny_ablation.engine.bare.functions import Addition, Additions
from tiny_ablation.errors import ModelError
from tiny_ablation.models.placed import weight_like

PROBE = (1, 2)  # the tokens that are run

_ATTENTION = re.compile(r"(?<!linear_)(self_?)?att(n|ention)$")
_ROUTER = re.compile(r"(^|\.)(gate|router)$")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True)
class Block:
    """One block."""

    module: nn.Module  # the block itself
    attention: nn.Module | None  # its attention; None for a block without
    mlp: nn.Module | None  # the child that holds the MLP; None where its linear maps are children of the block itself
    inside: dict[str, nn.Module]  # the attention's linear maps by name, in the order of their calls
    outside: dict[str, nn.Module]  # those of the MLP, likewise
    # for each addition to the residual stream which parts it adds, such as `("attn",)` or `("attn", "mlp")`
    adds: tuple[tuple[str, ...], ...]
    routers: tuple[nn.Module, ...]  # the modules that choose experts


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
            stack.enter_context(module.register_forward_hook(lambda m, *_: called.append(m)))
        for block in blocks:
            stack.enter_context(additions.watching(block))
            for child in block.children():
                stack.enter_context(child.register_forward_hook(keep))
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
    lists = (list(module) for module in hf.modules() if isinstance(module, nn.ModuleList) and len(module) == n_layers)
    found = [blocks for blocks in lists if _has_matrix(blocks[0])]
    if not found:
        raise ModelError(f"reference: the model has no list of {n_layers} blocks")
    return max(found, key=lambda blocks: sum(p.numel() for block in blocks for p in block.parameters()))


def _has_matrix(module: nn.Module, *, inside: bool = True) -> bool:
    return any(p.dim() > 1 for p in module.parameters(recurse=inside))


def _describe(
    block: nn.Module, called: Sequence[nn.Module], seen: Sequence[Addition], outputs: Mapping[nn.Module, Tensor], config: Any
) -> Block:
    attention = _only([m for name, m in block.named_children() if _ATTENTION.search(name) and _has_matrix(m)])
    mlp = _only([m for m in block.children() if m is not attention and not is_linear(m) and _has_matrix(m)])
    inner, names = _names(attention), _names(block)
    # Where no child is the MLP, the linear maps of the block itself are its.
    theirs = set(_names(mlp)) if mlp is not None else set(names) - set(inner)
    outside = {names[m]: m for m in called if m in theirs}
    adds = tuple(_label(seen, {"attn": attention, "mlp": mlp}, outputs, set(outside.values())))
    inside = {inner[m]: m for m in called if m in inner}
    # Routers have one row of weights for each expert.
    n_experts = next((n for key in _EXPERTS if isinstance(n := getattr(config, key, None), int)), 0)
    rows = {m: getattr(m, "weight", None) for m, name in names.items() if _ROUTER.search(name)}
    routers = tuple(m for m, weight in rows.items() if isinstance(weight, Tensor) and weight.shape[0] == n_experts)
    return Block(block, attention, mlp, inside, outside, adds, routers)


def _only(modules: list[nn.Module]) -> nn.Module | None:
    return modules[0] if len(modules) == 1 else None


def _names(module: nn.Module | None) -> dict[nn.Module, str]:
    return {} if module is None else {m: name for name, m in module.named_modules()}


def _label(
    seen: Sequence[Addition], parts: Mapping[str, nn.Module | None], outputs: Mapping[nn.Module, Tensor], loose: set[nn.Module]
) -> Iterator[tuple[str, ...]]:
    """Which parts each addition adds: what ran since the one before; of two, the one that gave what is added, or both."""
    # A module that adds within itself ends after its addition, so only what holds weights of its own says that a part ran.
    modules = {
        name: loose if module is None else {m for m in module.modules() if _has_matrix(m, inside=False)}
        for name, module in parts.items()
    }
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


def _alike(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.reshape(b.shape), b, rtol=1e-3, atol=1e-5 * float(b.abs().max()))


# Where queries, keys and values are in the output of one linear map that gives all three. Written down from the modeling code
# of transformers, and not shared with the engine, so that a mistake in one of the two shows.
Outputs = Int[Tensor, "outputs"]  # the indices of all outputs of the map
QueryKeyValue = tuple[Int[Tensor, "heads d_head"], Int[Tensor, "kv_heads d_head"], Int[Tensor, "kv_heads d_head"]]
Layout = Callable[[Outputs, int, int, Any], QueryKeyValue]


def layout_of(config: Any) -> Layout | None:
    """The layout of a model of this config; None where it is not known."""
    return _LAYOUTS.get(config.model_type)


def _by_part(index: Outputs, heads: int, d_head: int, _config: Any) -> QueryKeyValue:
    """All queries, then all keys, then all values; fewer keys and values than queries where they are shared."""
    units = index.view(-1, d_head)
    keys, values = units[heads:].chunk(2)
    return units[:heads], keys, values


def _by_head(index: Outputs, heads: int, d_head: int, _config: Any) -> QueryKeyValue:
    """The query, key and value of one head, then those of the next."""
    queries, keys, values = index.view(heads, 3, d_head).unbind(1)
    return queries, keys, values


def _by_group(index: Outputs, heads: int, d_head: int, config: Any) -> QueryKeyValue:
    """The queries of a group of heads with the key and the value that they share, then the next group."""
    groups = index.view(config.num_kv_heads, heads // config.num_kv_heads + 2, d_head)
    return groups[:, :-2].flatten(0, 1), groups[:, -2], groups[:, -1]


def _falcon(index: Outputs, heads: int, d_head: int, config: Any) -> QueryKeyValue:
    if config.new_decoder_architecture:
        return _by_group(index, heads, d_head, config)
    return (_by_part if config.multi_query else _by_head)(index, heads, d_head, config)


def _bigcode(index: Outputs, heads: int, d_head: int, config: Any) -> QueryKeyValue:
    return (_by_part if config.multi_query else _by_head)(index, heads, d_head, config)


def _codegen(index: Outputs, heads: int, d_head: int, _config: Any) -> QueryKeyValue:
    """Four parts, made for four accelerators; in each the queries, the values and the keys of a quarter of the heads."""
    queries, values, keys = index.view(4, 3, heads // 4, d_head).unbind(1)
    return queries.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1)


_LAYOUTS: dict[str, Layout] = {
    **dict.fromkeys(("gpt2", "phi3", "mpt", "openai-gpt"), _by_part),
    **dict.fromkeys(("gpt_neox", "gpt_neox_japanese", "bloom", "persimmon"), _by_head),
    "falcon": _falcon,
    "gpt_bigcode": _bigcode,
    "codegen": _codegen,
}
