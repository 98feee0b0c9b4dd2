"""What is in a run's digest and what is not."""

import copy
import dataclasses
import importlib.metadata
import re
from pathlib import Path

import pytest

from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.commands._compose import compose
from tiny_ablation.config import schema
from tiny_ablation.config.identity import (
    NOT_IDENTITY,
    NUMERIC_PACKAGES,
    differences,
    hash_json,
    identify,
    without,
)
from tiny_ablation.store.provenance import numeric_versions

PLAIN = {
    "model": {"name": "toy", "path": "/somewhere", "seed": 0},
    "dataset": {"name": "facts", "path": None, "fields": {}, "split": "all"},
    "ablation": {"kind": "heads_zero", "scales": [0.0]},
    "device": {"name": "cpu", "dtype": "float32", "threads": 2, "batch_tokens": 2048, "deterministic": True},
    "tracking": {"backend": "mlflow"},
    "notes": {"why": "a test"},
    "resume": True,
    "experiment": None,
    "seed": 0,
}


def digest(plain, **other):
    return identity(plain, **other).digest


def identity(plain, **other):
    facts = {
        "condition": "facts",
        "data": "d",
        "splits": "s",
        "weights": "w",
        "versions": {"torch": "2"},
        **other,
    }
    return identify(plain, **facts)


def changed(path, value):
    plain = copy.deepcopy(PLAIN)
    *parents, last = path.split(".")
    node = plain
    for parent in parents:
        node = node[parent]
    node[last] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("ablation.scales", [0.5]),
        ("device.dtype", "bfloat16"),
        ("dataset.split", "dev"),
        ("model.seed", 1),
    ],
)
def test_what_defines_the_result_changes_the_digest(path, value):
    assert digest(changed(path, value)) != digest(PLAIN)


@pytest.mark.parametrize(
    ("path", "value"),
    [("device.name", "cuda"), ("device.threads", 8), ("device.batch_tokens", 1), ("model.path", "/elsewhere"),
     ("dataset.path", "x.jsonl"), ("tracking", {"backend": "off"}), ("sweep", {"k": 3}),
     ("profile", {"power": True}), ("notes", {}), ("resume", False)],
)  # fmt: skip
def test_machine_paths_and_notes_do_not(path, value):
    assert digest(changed(path, value)) == digest(PLAIN)


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        *((name, "other") for name in ("condition", "data", "splits", "weights", "inputs")),
        ("versions", {"torch": "3"}),
    ],
)
def test_content_does(fact, value):
    assert digest(PLAIN, **{fact: value}) != digest(PLAIN)


def test_the_versions_of_a_run_are_the_installed_ones(monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "torch" else real(name))
    numeric_versions.cache_clear()
    try:
        covers = run_spec(compose(["model=toy", "dataset=facts"])).identity("w").covers
    finally:
        numeric_versions.cache_clear()
    assert covers["versions"] == {name: real(name) for name in NUMERIC_PACKAGES} | {"torch": "9.9"}


def test_what_differs_is_told_in_words():
    one, two = identity(PLAIN), identity(changed("seed", 7), weights="f" * 64, versions={"torch": "3"})
    assert differences(one.covers, one.covers) == []
    assert sorted(differences(one.covers, two.covers)) == [
        "seed 0 there, 7 here", "torch 2 there, 3 here", "weights w there, ffffffffffff here",
    ]  # fmt: skip
    assert differences(one.covers, {"weights": "w"}) == []
    assert differences({}, {"weights": "w"}) == ["weights none there, w here"]


def test_the_schema_marks_the_same_keys():
    """The comments `identity: no` and the list that acts on them say the same."""
    source = Path(schema.__file__).read_text()
    groups = {f.type: f.name for f in dataclasses.fields(schema.RootConfig)}
    marked, group = set(), ""
    for line in source.splitlines():
        if found := re.match(r"class (\w+)", line):
            group = found[1]
        elif "identity: no" in line and (found := re.match(r"    (\w+):", line)):
            section = next(
                (name for kind, name in groups.items() if getattr(kind, "__name__", "") == group), ""
            )
            marked.add(f"{section}.{found[1]}" if section else found[1])
    whole = {"tracking", "profile", "sweep"}  # groups of which no key is part
    marked = {name for name in marked if name.partition(".")[0] not in whole} | whole | {"experiment"}
    assert marked == {key for key in NOT_IDENTITY if not key.startswith("ablation.")}


def test_without_leaves_its_argument_alone():
    before = copy.deepcopy(PLAIN)
    assert "threads" not in without(PLAIN, ("device.threads",))["device"]
    assert before == PLAIN


def test_the_hash_does_not_depend_on_the_order_of_keys():
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
