"""What is in a run's digest and what is not."""

import copy
import dataclasses
import re
from pathlib import Path

import pytest

from tiny_ablation.config import schema
from tiny_ablation.config.identity import NOT_IDENTITY, hash_json, identify, without

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
    facts = {"condition": "facts", "data": "d", "splits": "s", "weights": "w", **other}
    return identify(plain, **facts).digest


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


@pytest.mark.parametrize("fact", ["condition", "data", "splits", "weights"])
def test_content_does(fact):
    assert digest(PLAIN, **{fact: "other"}) != digest(PLAIN)


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
