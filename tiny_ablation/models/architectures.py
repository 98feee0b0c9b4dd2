"""What cannot be seen from outside a model: the quirks of architectures, one place for each.

`length_class` and `restarts`: rotary embeddings whose frequencies depend on how long the sequence is.
"""

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any


def length_class(config: Any) -> Callable[[int], Hashable]:
    """What a prompt's number of tokens decides about how the model computes all of them.

    Prompts may share a forward pass only where this is the same for all: with LongRoPE (Phi-3) every token of a prompt that is
    longer than the model was first trained on turns by other angles, with dynamic NTK scaling the angles follow the length.

    Args:
        config: of a Hugging Face model.
    """
    text = config.get_text_config()
    classes = [found for rope in _ropes(text) if (found := _class_of(text, rope)) is not None]
    return lambda n: tuple(found(n) for found in classes)


def _ropes(config: Any) -> Iterator[dict[str, Any]]:
    """The settings of each rotary embedding; layers of several kinds may have one each."""
    found = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in found.values() if isinstance(value, dict) and "rope_type" in value]
    yield from nested or [found]


def _class_of(config: Any, rope: dict[str, Any]) -> Callable[[int], Hashable] | None:
    kind = str(rope.get("rope_type", "default"))
    if kind == "longrope":
        short = rope["original_max_position_embeddings"]
        return lambda n: n > short
    if "dynamic" in kind:
        made_for = config.max_position_embeddings
        return lambda n: max(n, made_for)
    return None


def restarts(hf: Any) -> list[Callable[[], None]]:
    """What makes rotary embeddings forget the prompts that they have seen; to be called before each pass.

    With dynamic NTK scaling transformers keeps the frequencies of the longest prompt so far, so that a prompt would be computed
    differently behind a longer one.
    """
    out = []
    for module in hf.modules():
        kinds = getattr(module, "rope_type", "")
        prefixes = (
            {f"{name}_": kind for name, kind in kinds.items()} if isinstance(kinds, dict) else {"": kinds}
        )
        out += [partial(_restart, module, prefix) for prefix, kind in prefixes.items() if "dynamic" in kind]
    return out


def _restart(module: Any, prefix: str) -> None:
    setattr(module, f"{prefix}inv_freq", getattr(module, f"{prefix}original_inv_freq").clone())
    setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
