"""The quirks of architectures that cannot be seen from outside a model, one function for each.

`length_class` and `restarts` are for rotary embeddings whose frequencies depend on the length of the sequence.
"""

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any


def length_class(config: Any) -> Callable[[int], Hashable]:
    """What the number of tokens of a prompt decides about how the model (of this Hugging Face config) computes all of them.

    Prompts may share a forward pass only if this is the same for all: with LongRoPE (Phi-3) every token of a prompt that is
    longer than the model was first trained on turns by other angles, with dynamic NTK scaling the angles follow the length.
    """
    text = config.get_text_config()
    settings = getattr(text, "rope_parameters", None) or {}
    nested = [value for value in settings.values() if isinstance(value, dict) and "rope_type" in value]
    classes: list[Callable[[int], Hashable]] = []
    for rope in nested or [settings]:  # layers of several kinds may have one rotary embedding each
        kind = str(rope.get("rope_type", "default"))
        if kind == "longrope":
            classes.append(lambda n, short=rope["original_max_position_embeddings"]: n > short)
        elif "dynamic" in kind:
            classes.append(lambda n: max(n, text.max_position_embeddings))
    return lambda n: tuple(found(n) for found in classes)


_WINDOWS = ("sliding_window", "window_size", "attention_chunk_size", "index_topk")


def window(config: Any) -> float:
    """The shortest attention window of all layers, in tokens, the present one included; infinite if no layer is limited.

    Such layers count the distance in the nodes of a prefix tree, or take the mask of a tree for one that is cut already, so
    that a tree must not be larger. Layers that attend to the tokens of the highest scores only (DeepSeek V3.2) break ties by
    order, which is another in a tree.
    """
    text = config.get_text_config()
    sizes = [getattr(text, name, None) for name in _WINDOWS]
    return min((size for size in sizes if isinstance(size, int) and size > 0), default=math.inf)


def resume_limit(config: Any, n_layers: int) -> int:
    """The last block that a pass may begin at, if it may begin anywhere.

    Gemma 3n and 4 compute keys and values of their last blocks in earlier ones, one for each kind of attention, which have to
    run.
    """
    text = config.get_text_config()
    own = n_layers - (getattr(text, "num_kv_shared_layers", None) or 0)
    if own in (0, n_layers):
        return n_layers - 1
    kinds = list(getattr(text, "layer_types", None) or [None] * n_layers)
    return min(max(i for i in range(own) if kinds[i] == kind) for kind in set(kinds[own:]) & set(kinds[:own]))


def restarts(hf: Any) -> list[Callable[[], None]]:
    """Functions that make rotary embeddings forget the prompts that they have seen; to be called before each pass.

    With dynamic NTK scaling transformers keeps the frequencies of the longest prompt so far, so that a prompt would be computed
    differently after a longer one.
    """

    def restart(module: Any, prefix: str) -> None:
        setattr(module, f"{prefix}inv_freq", getattr(module, f"{prefix}original_inv_freq").clone())
        setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)

    out = []
    for module in hf.modules():
        kinds = getattr(module, "rope_type", "")
        prefixes = {f"{name}_": kind for name, kind in kinds.items()} if isinstance(kinds, dict) else {"": kinds}
        out += [partial(restart, module, prefix) for prefix, kind in prefixes.items() if "dynamic" in kind]
    return out


Layout = Callable[[Any], tuple[Any, Any, Any]]  # indices of a fused output -> those of queries, keys and values, by head


def fused_layouts(config: Any, heads: int, d_head: int, width: int) -> list[Layout]:
    """How one matrix with `width` outputs may give queries, keys and values.

    The layout of this architecture (of `config`, the model's text part), or all that fit if none is listed.
    """
    kv, rest = divmod(width - heads * d_head, 2 * d_head)
    if rest or kv < 1 or heads % kv:
        return []
    known = _FUSED.get(config.model_type)
    if known is not None:
        return [partial(known(config), heads=heads, kv=kv, d=d_head)]
    layouts = (by_part, by_head) if kv == heads else (by_part, by_group)
    return [partial(layout, heads=heads, kv=kv, d=d_head) for layout in layouts]


def by_part(index: Any, heads: int, kv: int, d: int) -> tuple[Any, Any, Any]:
    """All queries, then all keys, then all values."""
    units = index.view(-1, d)
    return units[:heads], units[heads : heads + kv], units[heads + kv :]


def by_head(index: Any, heads: int, kv: int, d: int) -> tuple[Any, Any, Any]:  # noqa: ARG001 - as the other layouts
    """The query, key and value of one head, then those of the next."""
    queries, keys, values = index.view(heads, 3, d).unbind(1)
    return queries, keys, values


def by_group(index: Any, heads: int, kv: int, d: int) -> tuple[Any, Any, Any]:
    """The queries of a group of heads with the key and the value that they share, then the next group."""
    groups = index.view(kv, heads // kv + 2, d)
    return groups[:, :-2].flatten(0, 1), groups[:, -2], groups[:, -1]


def by_shard(index: Any, heads: int, kv: int, d: int) -> tuple[Any, Any, Any]:  # noqa: ARG001 - as the other layouts
    """In each of four shards the queries, the values and the keys of a quarter of the heads."""
    queries, values, keys = index.view(4, 3, heads // 4, d).unbind(1)
    return queries.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1)


_FUSED: dict[str, Callable[[Any], Callable[..., tuple[Any, Any, Any]]]] = {
    **dict.fromkeys(("gpt2", "phi3", "mpt", "openai-gpt", "dbrx"), lambda _: by_part),
    **dict.fromkeys(("gpt_neox", "gpt_neox_japanese", "bloom", "persimmon"), lambda _: by_head),
    "falcon": lambda c: by_group if c.new_decoder_architecture else by_part if c.multi_query else by_head,
    "gpt_bigcode": lambda c: by_part if c.multi_query else by_head,
    "codegen": lambda _: by_shard,
}
