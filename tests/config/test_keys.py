"""Config keys: what their fields say is what the checks, the reference and a run's identity go by."""

import copy
import typing
from dataclasses import fields, is_dataclass
from enum import EnumMeta

import pytest

from tests.cli.conftest import TOY
from tiny_ablation.ablations.registry import all_ablations, find_ablation
from tiny_ablation.commands._compose import compose
from tiny_ablation.config.keys import Key, about, check_values, defining, settings
from tiny_ablation.config.schema import (
    DatasetConfig,
    DeviceConfig,
    MetricsConfig,
    ModelConfig,
    RootConfig,
    SaeConfig,
    StatsConfig,
)
from tiny_ablation.errors import ConfigError
from tiny_ablation.sae.site import COMPONENTS

GROUPS = [RootConfig, *(each.type for each in fields(RootConfig) if is_dataclass(each.type))]
KINDS = [find_ablation(name).config for name in all_ablations()]


@pytest.mark.parametrize("group", [*GROUPS, *KINDS], ids=lambda group: group.__name__)
def test_every_field_says_what_its_key_means(group):
    for each in fields(group):
        kinds = (each.type, *typing.get_args(each.type))
        speaks = is_dataclass(each.type) or any(isinstance(kind, EnumMeta) for kind in kinds)
        assert about(each).help or speaks, each.name


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DeviceConfig(threads=0), "device.threads=0: it must be at least 1"),
        (StatsConfig(confidence=1.0), r"stats.confidence=1.0: it must be at least 0.5 and below 1"),
        (StatsConfig(confidence=float("nan")), "it must be a finite number"),
        (SaeConfig(lr=0.0), "sae.lr=0.0: it must be above 0"),
        (SaeConfig(component="resid_pst"), r"sae.component=resid_pst \(did you mean resid_post\?\): choose one of "),
        (ModelConfig(prepend_bos="maybe"), "model.prepend_bos=maybe: choose one of auto, true, false"),
        (MetricsConfig(names=[]), r"metrics.names=\[\]: the list is empty"),
        (MetricsConfig(names=["a", "b", "a"]), "names a more than once"),
    ],
)
def test_values_outside_what_a_key_takes_are_refused(config, message):
    group = next(each.name for each in fields(RootConfig) if each.type is type(config))
    with pytest.raises(ConfigError, match=message):
        check_values(config, f"{group}.")


def test_values_within_are_taken():
    check_values(RootConfig(model=ModelConfig(prepend_bos=True), dataset=DatasetConfig(n_examples=1)))
    check_values(StatsConfig(confidence=0.5), "stats.")


@pytest.mark.parametrize(
    ("key", "number", "fits"),
    [
        (Key(least=1), 1, True),
        (Key(least=1), 0.9, False),
        (Key(above=0), 0, False),
        (Key(most=1), 1, True),
        (Key(most=1), 1.1, False),
        (Key(below=1), 1, False),
        (Key(), -1e9, True),
    ],
)
def test_bounds(key, number, fits):
    assert key.within(number) is fits


@pytest.mark.parametrize("name", all_ablations())
def test_what_defines_a_result_is_what_each_key_says(name):
    """Every key in turn: a run that differs in it alone is another run, or the same, as its field says."""
    root = RootConfig(ablation=find_ablation(name).config(kind=name))
    if hasattr(root.ablation, "sae"):
        root.ablation.sae = SaeConfig()
    values = {each.name: f"{each.name} as it was" for each in settings(root)}
    before = defining(root, nested(values))
    for each in settings(root):
        if is_dataclass(each.value):
            continue
        after = defining(root, nested(values | {each.name: "changed"}))
        groups = [known for group, known, _ in settings(root) if each.name.startswith(f"{group}.")]
        assert (after != before) is (each.key.identity and all(known.identity for known in groups)), each.name


def nested(values):
    out = {}
    for name, value in values.items():
        *parents, last = name.split(".")
        node = out
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node.get(parent, {}), dict) else node
        if not any(other.startswith(f"{name}.") for other in values):
            node[last] = value
    return out


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("device.threads=3", True),
        ("device.dtype=bfloat16", False),
        ("dataset.path=elsewhere.jsonl", True),
        ("dataset.split=dev", False),
        ("model.path=elsewhere", True),
        ("model.seed=1", False),
        ("sweep.k=3", True),
        ("tracking.experiment=mine", True),
        ("resume=false", True),
        ("+notes.why=x", True),
        ("seed=1", False),
    ],
)
def test_machine_paths_and_notes_do_not_define_a_result(override, same):
    assert (compose([*TOY, override]).defining == compose(TOY).defining) is same


def test_leaving_keys_out_leaves_the_values_alone():
    given = compose(TOY)
    before = copy.deepcopy(given.plain)
    assert "threads" not in given.defining["device"]
    assert given.plain == before


def test_the_checks_of_a_run_are_those_of_its_keys():
    with pytest.raises(ConfigError, match=r"ablation\.component=mlp: choose one of z, q, k, v"):
        compose([*TOY, "ablation.component=mlp"])


def test_autoencoders_can_be_where_the_key_says():
    (component,) = [each for each in fields(SaeConfig) if each.name == "component"]
    assert about(component).choices == COMPONENTS
