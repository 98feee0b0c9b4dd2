"""The config group `sweep`: checked, and read back from the plan of a finished sweep."""

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from tiny_ablation.config.schema import EffectSign, SetOperation, SweepConfig
from tiny_ablation.errors import ConfigError

MIN_RESAMPLES = 100
_Q = re.compile(r"q(0?\.\d+)")


class TopSet(NamedTuple):
    """Which components make up a condition's top set: so many, or those that a test finds; the other is None."""

    n: int | None
    q: float | None


def parse_k(k: object) -> TopSet:
    """What `sweep.k` asks for.

    Raises:
        ConfigError: it is neither a number of components nor a q-value such as q0.05.
    """
    if isinstance(k, str) and (match := _Q.fullmatch(k.strip())) and 0 < float(match[1]) < 1:
        return TopSet(None, float(match[1]))
    if isinstance(k, str) and k.strip().isdecimal():
        k = int(k)
    if isinstance(k, int) and not isinstance(k, bool) and k >= 1:
        return TopSet(k, None)
    raise ConfigError(
        f"sweep.k={k}: give how many components a condition's top set has, such as 10, or a q-value such as q0.05"
    )


def check_sweep(cfg: SweepConfig) -> None:
    """Refuse values of the group that make no sense; hypotheses have a check of their own.

    Raises:
        ConfigError: with the key.
    """
    parse_k(cfg.k)
    if not 0 < cfg.q < 1 or math.isnan(cfg.q):
        raise ConfigError(f"sweep.q={cfg.q}: a false discovery rate lies between 0 and 1, such as 0.05")
    if cfg.n_resamples < MIN_RESAMPLES:
        raise ConfigError(
            f"sweep.n_resamples={cfg.n_resamples}: it must be at least {MIN_RESAMPLES}, or the share of draws says little"
        )
    if cfg.n_control_sets < 1:
        raise ConfigError(f"sweep.n_control_sets={cfg.n_control_sets}: it must be at least 1")
    if cfg.metrics is not None and (not cfg.metrics or len(set(cfg.metrics)) < len(cfg.metrics)):
        raise ConfigError(
            f"sweep.metrics={cfg.metrics}: name each metric once, or leave it out for each run's primary metric"
        )


def sweep_config(plain: Mapping[str, Any]) -> SweepConfig:
    """The group from plain JSON values, as `sweep.json` keeps it; what is missing has its default.

    Raises:
        ConfigError: a key is unknown or a value is wrong.
    """
    known = {field.name for field in fields(SweepConfig)}
    if unknown := sorted(plain.keys() - known):
        raise ConfigError(f"unknown config key sweep.{unknown[0]}; there are {', '.join(sorted(known))}")
    values = dict(plain)
    for key, choices in (("op", SetOperation), ("direction", EffectSign)):
        if key in values and not isinstance(values[key], choices):
            try:
                values[key] = choices(values[key])
            except ValueError:
                names = ", ".join(choice.value for choice in choices)
                raise ConfigError(f"sweep.{key}={values[key]}: choose one of {names}") from None
    cfg = SweepConfig(**values)
    check_sweep(cfg)
    return cfg
