"""What the doctor finds, and what it calls a problem."""

import importlib.metadata

import pytest
import torch

from tests.verify import faults
from tiny_ablation.commands._compose import compose
from tiny_ablation.engine.executor import Executor
from tiny_ablation.errors import ConfigError
from tiny_ablation.store import provenance
from tiny_ablation.verify import doctor

SMALL = ("model=toy", "dataset.n_examples=4", "ablation.scales=[0.0]", "device=cpu", "device.threads=1")


def probe(*overrides):
    return doctor.probe(compose([*SMALL, *overrides]))


def fine():
    """Findings without a problem."""
    return {
        "devices": [{"name": "cpu", "there": True, "about": [], "auto": True, "bad": None}],
        "packages": [],
        "probe": {"device": "cpu", "largest_change": 0.0, "tolerance": 1e-3, "fault": None},
    }


def test_the_probe_of_a_right_device():
    found = probe()
    assert found["equal"]
    assert found["largest_change"] == 0.0
    assert 0 < found["floor"] < 1e-4
    assert (found["verdict"], found["n_sites"], found["n_examples"]) == ("ok", 8, 4)
    assert not list(doctor.problems(fine() | {"probe": found}))


def test_the_floor_follows_the_precision():
    assert probe("device.dtype=bfloat16")["floor"] > 1e-3 > 2e-6 > probe("device.dtype=float64")["floor"]


@pytest.mark.parametrize(("size", "is_problem"), [(1e-6, False), (1e-2, True)])
def test_a_device_that_computes_something_else_each_time(monkeypatch, size, is_problem):
    real, calls = Executor.run, []

    def unsteady(self, index, *tick):
        result = real(self, index, *tick)
        calls.append(index)
        result.values["logit_diff"] = result.values["logit_diff"] + size * len(calls)
        return result

    monkeypatch.setattr(Executor, "run", unsteady)
    found = probe("verify=off")
    assert not found["equal"]
    assert found["largest_change"] == pytest.approx(size, rel=1e-3)
    said = [text for text in doctor.problems(fine() | {"probe": found}) if "the same sweep twice" in text]
    assert bool(said) is is_problem


def test_a_device_whose_products_are_off():
    with faults.faulty(faults.drift(1e-2)):
        found = probe("verify.n_sites=null", "verify.n_examples=null")
    assert found["equal"]
    assert found["verdict"] in ("drift", "bug")
    [text] = doctor.problems(fine() | {"probe": found})
    assert text.startswith(f"verify: {found['verdict']}")


def test_a_device_that_is_not_there_is_a_problem_and_a_wrong_setting_an_error():
    if not torch.cuda.is_available():
        found = probe("device=cuda")
        assert "there is no cuda device" in found["error"]
        assert "could not be run" in next(doctor.problems(fine() | {"probe": found}))
    with pytest.raises(ConfigError):
        probe("ablation.layers=[99]")


def test_a_known_bad_combination(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.8.1")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    found = {device["name"]: device for device in doctor.devices()}
    assert "161640" in found["mps"]["bad"]
    assert not found["mps"]["auto"]
    assert found["cpu"]["bad"] is None
    [text] = doctor.problems(fine() | {"devices": list(found.values())})
    assert text.startswith("mps: torch 2.8")


def test_packages_are_held_against_what_the_tool_declares(monkeypatch):
    declared = [
        "torch>=2.6",
        "transformer-lens<4,>=3.9",
        "nothing-such>=1",
        "pytest>=8; extra == 'dev'",
        "absent-extra; extra == 'dev'",
        "colorama; sys_platform == 'no-such-system'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: declared)
    real = provenance.versions
    monkeypatch.setattr(provenance, "versions", lambda names: real(names) | {"transformer-lens": "4.0.0"})
    found = {package["name"]: package for package in doctor.packages()}
    assert set(found) == {"torch", "transformer-lens", "nothing-such", "pytest", "absent-extra"}
    assert found["torch"]["ok"]
    assert found["pytest"]["extra"] == "dev"
    assert not found["absent-extra"]["ok"]
    said = list(doctor.problems(fine() | {"packages": list(found.values())}))
    assert len(said) == 2  # an extra that is not installed is none
    assert "transformer-lens is 4.0.0" in said[0]
    assert "nothing-such is missing" in said[1]


def test_what_runs_from_an_uninstalled_checkout_has_versions_all_the_same(monkeypatch):
    def missing(_):
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    found = {package["name"]: package for package in doctor.packages()}
    assert found["torch"]["version"] == importlib.metadata.version("torch")
    assert found["torch"]["ok"]


def test_models(monkeypatch, tmp_path):
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = {model["name"]: model["ready"] for model in doctor.models()}
    assert found["toy"] is True
    assert found["planted"] is True
    assert found["smollm2_135m"] is False  # an empty cache
    assert found["local"] is None
    assert doctor.cache()["place"] == "TINY_ABLATE_CACHE"
    assert doctor.cache()["bytes"] == 0


def test_a_model_that_is_in_the_cache_is_ready(smollm2):
    assert {model["name"]: model["ready"] for model in doctor.models()}["smollm2_135m"] is True


def test_the_place_of_the_cache_has_no_name_in_it(monkeypatch, tmp_path):
    monkeypatch.delenv("TINY_ABLATE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "somebody/.cache"))
    assert doctor.cache()["place"] == "~/.cache/tiny-ablate"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere-of-somebody"))
    assert "somebody" not in doctor.cache()["place"]
