"""The config group `sweep`: checked, and read back from the plan of a finished sweep."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from tiny_ablation.config.keys import check_values, unknown_choice
from tiny_ablation.config.schema import EffectSign, SetOperation, SweepConfig
from tiny_ablation.errors import ConfigError, did_you_mean

_Q = re.compile(r"q(0?\.\d+)")


class TopSet(NamedTuple):
    """Which components make up a condition's top set: so many, or those that a test finds; the other is None."""

    n: int | None
    q: float | None


def parse_k(k: object) -> TopSet:
    """What `sweep.k` asks for. Raises ConfigError: it is neither a number of components nor a q-value such as q0.05."""
    if isinstance(k, str) and (match := _Q.fullmatch(k.strip())) and 0 < float(match[1]) < 1:
        return TopSet(None, float(match[1]))
    if isinstance(k, str) and k.strip().isdecimal():
        k = int(k)
    if isinstance(k, int) and not isinstance(k, bool) and k >= 1:
        return TopSet(k, None)
    raise ConfigError(
        f"sweep.k={k}: give how many components a condition's top set has, such as 10, or a q-value such as q0.05"
    )


def sweep_config(plain: Mapping[str, Any]) -> SweepConfig:
    """The group from plain JSON values, as `sweep.json` keeps it; what is missing has its default.

    Raises:
        ConfigError: a key is unknown or a value is wrong.
    """
    known = {field.name for field in fields(SweepConfig)}
    if unknown := sorted(plain.keys() - known):
        raise ConfigError(
            f"unknown config key sweep.{unknown[0]}{did_you_mean(unknown[0], known)}; there are {', '.join(sorted(known))}"
        )
    values = dict(plain)
    for key, choices in (("op", SetOperation), ("direction", EffectSign)):
        if key in values and not isinstance(values[key], choices):
            try:
                values[key] = choices(values[key])
            except ValueError:
                raise unknown_choice(f"sweep.{key}", values[key], [each.value for each in choices]) from None
    cfg = SweepConfig(**values)
    check_values(cfg, "sweep.")
    parse_k(cfg.k)
    return cfg
