"""Where queries, keys and values stand in the output of one linear map that gives all three.

Written down from the modeling code of transformers, and not shared with the engine, so that a mistake in one of the two shows.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

# Each gives the indices (units, d_head) of queries, keys and values.
Layout = Callable[[Tensor, int, int, Any], tuple[Tensor, Tensor, Tensor]]


def layout_of(config: Any) -> Layout | None:
    """The layout of a model of this config; None where it is not known."""
    return _LAYOUTS.get(config.model_type)


def _by_part(index: Tensor, heads: int, d_head: int, _config: Any) -> tuple[Tensor, Tensor, Tensor]:
    """All queries, then all keys, then all values; fewer keys and values than queries where they are shared."""
    units = index.view(-1, d_head)
    keys, values = units[heads:].chunk(2)
    return units[:heads], keys, values


def _by_head(index: Tensor, heads: int, d_head: int, _config: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The query, key and value of one head, then those of the next."""
    queries, keys, values = index.view(heads, 3, d_head).unbind(1)
    return queries, keys, values


def _by_group(index: Tensor, heads: int, d_head: int, config: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The queries of a group of heads with the key and the value that they share, then the next group."""
    groups = index.view(config.num_kv_heads, heads // config.num_kv_heads + 2, d_head)
    return groups[:, :-2].flatten(0, 1), groups[:, -2], groups[:, -1]


def _falcon(index: Tensor, heads: int, d_head: int, config: Any) -> tuple[Tensor, Tensor, Tensor]:
    if config.new_decoder_architecture:
        return _by_group(index, heads, d_head, config)
    return (_by_part if config.multi_query else _by_head)(index, heads, d_head, config)


def _bigcode(index: Tensor, heads: int, d_head: int, config: Any) -> tuple[Tensor, Tensor, Tensor]:
    return (_by_part if config.multi_query else _by_head)(index, heads, d_head, config)


def _codegen(index: Tensor, heads: int, d_head: int, _config: Any) -> tuple[Tensor, Tensor, Tensor]:
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
