"""How a config key is declared: its default, and whether it belongs to a run's identity, in one place."""

import copy
from collections.abc import Iterator
from dataclasses import field, fields, is_dataclass
from typing import Any


def key(default: Any, *, identity: bool = True) -> Any:
    """A field of a config dataclass.

    Args:
        default: its value where none is given; each config gets a copy.
        identity: whether it defines a result; a group that does not takes all its keys with it.
    """
    metadata = {"identity": identity}
    if isinstance(default, list | dict) or is_dataclass(default):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def is_identity(declared: Any) -> bool:
    """Whether a dataclass field defines a result."""
    return declared.metadata.get("identity", True)


def not_identity(config: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of the keys of a config object that do not define a result.

    Args:
        config: an instance of a config dataclass, such as `RootConfig`; what it holds decides, so that the keys of the chosen
            ablation are among them.
        prefix: of the names.
    """
    for each in fields(config):
        value = getattr(config, each.name, None)
        if not is_identity(each):
            yield f"{prefix}{each.name}"
        elif is_dataclass(value):
            yield from not_identity(value, f"{prefix}{each.name}.")
