"""What is in a run's digest and what is not."""

import importlib.metadata

import pytest

from tiny_ablation.ablations.registry import run_spec
from tiny_ablation.commands._compose import compose
from tiny_ablation.config import keys
from tiny_ablation.config.identity import NUMERIC_PACKAGES, differences, hash_json, identify
from tiny_ablation.store.provenance import numeric_versions

PLAIN = {"model": {"name": "toy"}, "ablation": {"kind": "heads_zero", "scales": [0.0]}, "seed": 0}


def digest(plain, **other):
    return identity(plain, **other).digest


def identity(plain, **other):
    facts = {"condition": "facts", "data": "d", "splits": "s", "weights": "w", "versions": {"torch": "2"}, **other}
    return identify(plain, **facts)


@pytest.mark.parametrize(
    ("fact", "value"),
    [*((name, "other") for name in ("condition", "data", "splits", "weights", "inputs")), ("versions", {"torch": "3"})],
)
def test_content_does(fact, value):
    assert digest(PLAIN, **{fact: value}) != digest(PLAIN)


def test_the_version_of_results_does(monkeypatch):
    before = digest(PLAIN)
    monkeypatch.setattr("tiny_ablation.config.identity.RESULT_VERSION", 0)
    assert digest(PLAIN) != before


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
    one, two = identity(PLAIN), identity(PLAIN | {"seed": 7}, weights="f" * 64, versions={"torch": "3"})
    assert differences(one.covers, one.covers) == []
    assert sorted(differences(one.covers, two.covers)) == [
        "seed 0 there, 7 here",
        "torch 2 there, 3 here",
        "weights w there, ffffffffffff here",
    ]
    assert differences(one.covers, {"weights": "w"}) == []
    assert differences({}, {"weights": "w"}) == ["weights none there, w here"]
    assert differences({"inputs": {}}, {"inputs": "b" * 64}) == ["earlier results or text {} there, bbbbbbbbbbbb here"]


NOT_IDENTITY = [
    *(f"device.{key}" for key in ("name", "index", "threads", "batch_tokens", "deterministic")),
    "device.map",
    "device.cpu_memory",
    "device.gpu_memory",
    "model.path",
    "model.base",
    "dataset.path",
    "dataset.fields",
    "tracking",
    "profile",
    "run",
    "run.shards",
    "run.shard",
    "run.dead_after",
    "sweep",
    "resume",
    "notes",
    "experiment",
    "generate.max_total",
]
SAE = ["ablation.sae.path", "ablation.sae.corpus", "ablation.sae.checkpoint_every"]


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("heads_zero", []),
        ("circuit", ["ablation.from_run", "ablation.ranking"]),
        ("heads_pair_zero", ["ablation.from_run"]),
        ("sae_train", ["ablation.anew", *SAE]),
        ("sae_toggle", SAE),
    ],
)
def test_the_keys_that_define_no_result(kind, own):
    settings = compose(["model=toy", f"ablation={kind}"])
    left_out = {each.name for each in keys.settings(settings.root) if not each.key.identity}
    of_sae = {f"sae.{name.rpartition('.')[2]}" for name in SAE}  # which are left out with the whole group
    assert left_out - of_sae == {*NOT_IDENTITY, "sae", *own}
    for name in own:
        *parents, last = name.split(".")
        node = settings.defining
        for parent in parents:
            node = node[parent]
        assert last not in node


def test_training_an_autoencoder_anew_is_the_same_run():
    of = lambda *more: run_spec(compose(["model=toy", "ablation=sae_train", *more])).identity("w").digest  # noqa: E731
    assert of("ablation.anew=true", "sae.checkpoint_every=7") == of()
    assert of("sae.k=7") != of()


def test_the_hash_does_not_depend_on_the_order_of_keys():
    assert hash_json({"a": 1, "b": 2}) == hash_json({"b": 2, "a": 1})
