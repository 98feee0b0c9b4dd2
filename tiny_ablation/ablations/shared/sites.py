"""Which heads and layers a config names, checked against the model."""

import re
from collections.abc import Sequence
from typing import Any

from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.models.labels import head_label

Head = tuple[int, int]  # (layer, head)
_HEAD = re.compile(r"(\d+)\.(\d+)|L(\d+)H(\d+)")


def chosen(values: Sequence[int] | None, size: int, key: str, what: str) -> list[int]:
    """The indices below `size` that a config list names, ascending; all of them for null.

    `key` is the config key and `what` the things that are counted, such as `heads`, for messages.

    Raises:
        ConfigError: an index is out of range.
    """
    if values is None:
        return list(range(size))
    wrong = [v for v in values if not 0 <= v < size]
    if wrong:
        raise ConfigError(f"{key}={list(values)}: this model has {size} {what}, 0 to {size - 1}; there is no {wrong[0]}")
    return sorted(values)


def chosen_layers(values: Sequence[int] | None, shape: ModelShape, component: str) -> list[int]:
    """The layers that `ablation.layers` names, ascending; for null those that have the component, which in hybrids not all do.

    Raises:
        ConfigError: an index is out of range, or no layer has the component.
    """
    if values is not None:
        return chosen(values, shape.n_layers, "ablation.layers", "layers")
    if found := shape.layers_with(component):
        return found
    raise ConfigError(f"ablation: no layer of this model has {component}")


def chosen_heads(values: Sequence[int] | None, shape: ModelShape, component: str = "z") -> list[int]:
    """The heads of a layer that `ablation.heads` names, on the axis of the component, ascending; all of them for null.

    Raises:
        ConfigError: an index is out of range.
    """
    what = "key/value heads a layer" if component in ("k", "v") else "heads a layer"
    return chosen(values, shape.n_units(component), "ablation.heads", what)


def window_around(layer: int, size: int, n_layers: int) -> range:
    """The layers of a window of `size` around one, as far as the model has them."""
    first = layer - size // 2
    return range(max(0, first), min(n_layers, first + size))


def parse_head(value: object, shape: ModelShape | None = None, key: str = "ablation.sets") -> Head:
    """The (layer, head) that is written `L5H10`; `5.2` and `"5.10"` are read too.

    YAML and Hydra read an unquoted `5.10` as the number 5.1, so a number is taken only where it can mean one head of the
    model: with 12 heads a layer, 5.1 has to be quoted, since it may have been 5.10. Without `shape` neither the range nor this
    ambiguity is checked.

    Raises:
        ConfigError: it is no head, not one of this model, or may be one of two; the message names the config key `key`.
    """
    match = None if isinstance(value, bool) else _HEAD.fullmatch(str(value).strip())
    if match is None:
        raise ConfigError(f"{key}: {value!r} is not a head; write L5H10 for head 10 of layer 5")
    layer, head = (int(group) for group in match.groups() if group is not None)
    if shape is not None:
        if layer >= shape.n_layers or head >= shape.n_heads:
            raise ConfigError(
                f"{key}: there is no head {value}; this model has layers 0 to {shape.n_layers - 1} "
                f"and heads 0 to {shape.n_heads - 1}"
            )
        if isinstance(value, float) and 0 < head * 10 < shape.n_heads:
            name = head_label(layer, head)
            raise ConfigError(
                f"{key}: {value} may mean {name} or {name}0, since a number loses its last zero; write {name}, or quote it"
            )
    return layer, head


def head_sites(cfg: Any, shape: ModelShape) -> list[Head]:
    """Every (layer, head) that a `HeadSitesConfig` names, on the axis of its component.

    Raises:
        ConfigError: an index is out of range.
    """
    heads = chosen_heads(cfg.heads, shape, cfg.component)
    return [(layer, head) for layer in chosen_layers(cfg.layers, shape, cfg.component) for head in heads]
