"""Config keys: dataclass fields that carry what a key means, which values it takes and whether it defines a result.

    threads: int | None = key(None, help="CPU threads; null leaves torch's choice", least=1, identity=False)

The reference, the help, the checks of values and the identity of a run are all derived from these fields, so that a new key is
its field and the code that uses it.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, NamedTuple

from tiny_ablation.errors import ConfigError, did_you_mean

_METADATA = "key"


@dataclass(frozen=True, kw_only=True)
class Key:
    """What is known of a config key beside its name, type and default."""

    help: str = ""  # what the key means, for people; an enum may speak for itself
    identity: bool = True  # whether it defines the result of a run; if not, runs that differ in it alone are the same run
    # the values that it takes, where its type does not list them; of a list, the values of its members
    choices: tuple[str, ...] = ()
    least: float | None = None  # the smallest number allowed; of a list, for its members. Likewise the others.
    most: float | None = None  # the largest number allowed
    above: float | None = None  # a number that values must exceed
    below: float | None = None  # a number that values must not reach

    @property
    def bounds(self) -> str:
        """The range in words, such as `at least 0.5 and below 1`; empty where there is none."""
        said = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        numbers = ((word, bound if isinstance(bound, int) else f"{bound:g}") for word, bound in said if bound is not None)
        return " and ".join(f"{word} {bound}" for word, bound in numbers)

    def within(self, number: float) -> bool:
        """Whether a number lies in the range."""
        return (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )


class Setting(NamedTuple):
    """One key of a config with its value."""

    name: str  # as it is typed, such as `device.threads`
    key: Key  # what is known of it
    value: Any  # what it is set to; of a group, the dataclass


def key(default: Any, **about: Any) -> Any:
    """A field of a config dataclass; a default that is a list, a dict or a dataclass type is made anew for every config."""
    metadata = {_METADATA: Key(**about)}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def about(each: Field[Any]) -> Key:
    """What is known of a field that `key` made."""
    return each.metadata[_METADATA]


def default_of(each: Field[Any]) -> Any:
    """The default of a field that `key` made."""
    return each.default if each.default_factory is MISSING else each.default_factory()


def settings(config: Any, prefix: str = "") -> Iterator[Setting]:
    """Every key of a config dataclass, each group before its own keys."""
    for each in fields(config):
        value = getattr(config, each.name)
        yield Setting(f"{prefix}{each.name}", about(each), value)
        if is_dataclass(value):
            yield from settings(value, f"{prefix}{each.name}.")


def check_values(config: Any, prefix: str = "") -> None:
    """Refuse values that are wrong whatever the other keys and the model are, with a ConfigError that names the key."""
    for name, known, value in settings(config, prefix):
        if name.startswith("ablation.sae."):
            continue  # a copy of the group `sae`, which is checked under its own name
        if value == []:
            raise ConfigError(f"{name}=[]: the list is empty; name at least one, or leave it out")
        values = value if isinstance(value, list) else [value]
        if twice := sorted({str(plain(each)) for each in values if values.count(each) > 1}):
            raise ConfigError(f"{name}={plain(value)} names {', '.join(twice)} more than once")
        for each in values:
            if each is not None and known.choices and typed(each) not in known.choices:
                raise unknown_choice(name, each, known.choices)
            if isinstance(each, bool) or not isinstance(each, int | float):
                continue
            if not math.isfinite(each):
                raise ConfigError(f"{name}={plain(value)}: it must be a finite number")
            if not known.within(each):
                raise ConfigError(f"{name}={plain(value)}: it must be {known.bounds}")


def unknown_choice(name: str, value: object, choices: Sequence[str]) -> ConfigError:
    """The error for a value that is not among those a key takes."""
    return ConfigError(f"{name}={plain(value)}{did_you_mean(value, choices)}: choose one of {', '.join(choices)}")


def defining(config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config that define a run's result: all but those of keys with `identity=False`."""
    out = copy.deepcopy(dict(values))
    for name, known, _ in settings(config):
        if not known.identity:
            *parents, last = name.split(".")
            node = out
            for parent in parents:
                node = node.get(parent, {})
            node.pop(last, None)
    return out


def leaves(value: Any, key: str = "", *, empty: bool = False) -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings that is not a mapping itself, with its keys joined by dots; if asked, empty ones."""
    if isinstance(value, Mapping) and (value or not empty):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name), empty=empty)
    else:
        yield key, value


def plain(value: Any) -> Any:
    """A value of the config with the names of enums in their place."""
    if isinstance(value, Enum):
        return value.value
    return [plain(each) for each in value] if isinstance(value, list) else value


def typed(value: object) -> str:
    """A value as it is typed."""
    return str(value).lower() if isinstance(value, bool) else str(plain(value))
