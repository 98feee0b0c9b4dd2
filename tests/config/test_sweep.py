"""The config group `sweep`."""

import pytest

from tiny_ablation.config.schema import EffectSign, SetOperation, SweepConfig
from tiny_ablation.config.sweep import parse_k, sweep_config
from tiny_ablation.errors import ConfigError


@pytest.mark.parametrize(("k", "expected"), [(10, (10, None)), ("3", (3, None)), ("q0.05", (None, 0.05)), ("q.1", (None, 0.1))])
def test_what_k_may_be(k, expected):
    assert parse_k(k) == expected


@pytest.mark.parametrize("k", [0, -1, 2.5, True, None, "ten", "q", "q0.0", "q1.5", "0.05", [3]])
def test_what_k_may_not_be(k):
    with pytest.raises(ConfigError, match=r"sweep\.k="):
        parse_k(k)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("q", 0.0),
        ("q", 1.0),
        ("q", float("nan")),
        ("n_resamples", 99),
        ("n_control_sets", 0),
        ("metrics", []),
        ("metrics", ["a", "a"]),
    ],
)
def test_values_that_make_no_sense(key, value):
    with pytest.raises(ConfigError, match=rf"sweep\.{key}="):
        sweep_config({key: value})


def test_from_plain_values():
    cfg = sweep_config({"op": "union", "direction": "hurts", "k": "q0.1"})
    assert (cfg.op, cfg.direction, cfg.k) == (SetOperation.union, EffectSign.hurts, "q0.1")
    assert sweep_config({}) == SweepConfig()
    with pytest.raises(ConfigError, match=r"unknown config key sweep\.ks"):
        sweep_config({"ks": 3})
    with pytest.raises(ConfigError, match=r"sweep\.direction=up: choose one of both"):
        sweep_config({"direction": "up"})
