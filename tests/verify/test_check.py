"""The verify slice says `ok` of a right run, catches a wrong one, and names what is wrong."""

import numpy as np
import pytest

from tests.verify import faults
from tiny_ablation.engine.executor import Executor

EVERYTHING = ("verify.n_sites=null", "verify.n_examples=null")


@pytest.mark.parametrize("mode", ["cpu", "float64", "auto"])
def test_a_right_run_is_ok(run, mode):
    code, found = run(f"verify={mode}")
    assert code == 0
    assert found["verdict"] == "ok"
    assert set(found["metrics"]["logit_diff"]) >= {"main", "verify", "abs_diff", "verdict"}
    assert {metric["verdict"] for metric in found["metrics"].values()} == {"ok"}
    assert (found["n_examples"], found["n_sites"], len(found["examples"]), len(found["sites"])) == (4, 6, 4, 6)
    assert found["rank_correlation"] == pytest.approx(1.0)
    assert (found["sign_flips"], found["faults"], found["first_difference"]) == (0, [], None)
    assert found["device_verify"].startswith("cpu float32" if mode == "cpu" else "cpu float64")
    assert 0 < found["max_abs_diff"] < found["tolerance"]


def test_all_sites_and_examples_on_request(run):
    code, found = run(*EVERYTHING, "ablation.scales=[0.0]")
    assert (code, found["verdict"]) == (0, "ok")
    assert (found["n_sites"], found["n_examples"]) == (8, 12)
    assert len({(site["layer"], site["head"]) for site in found["sites"]}) == 8


def test_every_direction_is_computed_again(run):
    code, found = run("ablation=activation_patch", "ablation.direction=both", "dataset=ioi", "verify.n_sites=4")
    assert (code, found["verdict"]) == (0, "ok")
    assert {(site["arm"], site["run"]) for site in found["sites"]} == {(0, "corrupt"), (1, "clean")}


@pytest.mark.slow
def test_a_run_in_double_precision_is_not_held_to_it_by_single_precision(run):
    for mode, tolerance in (("cpu", 1e-3), ("float64", 1e-5)):
        code, found = run("device.dtype=float64", f"verify={mode}", "resume=false")
        assert (code, found["verdict"], found["tolerance"]) == (0, "ok", tolerance)


def off(monkeypatch, change):
    """An engine whose values are off."""
    real = Executor.run

    def tampered(self, index, *tick):
        result = real(self, index, *tick)
        for name, values in result.values.items():
            result.values[name] = change(values)
        return result

    monkeypatch.setattr(Executor, "run", tampered)


def test_a_bug_fails_the_run_and_is_told_once(run, monkeypatch, capsys):
    off(monkeypatch, lambda values: values + 1.0)
    code, found = run()
    assert (code, found["verdict"]) == (1, "bug")
    said = capsys.readouterr().err
    assert said.count("verify: bug") == 1
    assert "verify.on_bug=warn lets it pass" in said


def test_a_bug_can_be_let_through_with_a_warning(run, monkeypatch, capsys):
    off(monkeypatch, lambda values: values + 1.0)
    code, found = run("verify.on_bug=warn")
    assert (code, found["verdict"]) == (0, "bug")
    assert "warning: verify: bug" in capsys.readouterr().err


def test_drift_is_told_and_does_not_fail_the_run(run, monkeypatch, capsys):
    off(monkeypatch, lambda values: values * 1.0005)
    code, found = run()
    assert (code, found["verdict"]) == (0, "drift")
    assert found["metrics"]["logit_diff"]["factor"] > 1.0003
    assert "warning: verify: drift" in capsys.readouterr().err


def test_results_of_two_examples_that_changed_places_are_a_bug(run, monkeypatch):
    """No mean over the examples shows it."""
    off(monkeypatch, lambda values: values.flip(1))
    code, found = run(*EVERYTHING)
    assert (code, found["verdict"]) == (1, "bug")


def test_a_fault_in_the_second_direction_is_found(run, monkeypatch):
    from tiny_ablation.verify import slice as module

    real = module.slices

    def second_leg_off(prepared, measured, *how):
        for name in measured[1].values:
            measured[1].values[name][:] += 0.5
        return real(prepared, measured, *how)

    monkeypatch.setattr("tiny_ablation.verify.check.slices", second_leg_off)
    code, found = run("ablation=activation_patch", "ablation.direction=both", "dataset=ioi")
    assert (code, found["verdict"]) == (1, "bug")
    assert {site["arm"] for site in found["sites"] if site["verdict"] == "bug"} == {1}


def test_off_writes_nothing(tmp_path, monkeypatch):
    from tests.verify.conftest import TOY
    from tiny_ablation.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tiny-ablate"])
    assert main([*TOY, "verify=off"]) == 0
    assert not (tmp_path / "run/metrics/verify.json").exists()


@pytest.mark.parametrize(("layer", "head"), [(0, 1), (1, 2)])
def test_a_sign_flip_in_one_head_is_a_bug_and_the_head_is_named(run, capsys, layer, head):
    with faults.faulty(faults.sign_flip(layer, head)):
        code, found = run()
    assert (code, found["verdict"]) == (1, "bug")
    assert f"attention output of layer {layer}" in found["first_difference"]
    assert f"as if it held L{layer}H{head} -1.00 times" in found["first_difference"]
    assert found["first_difference"] in capsys.readouterr().err


def test_with_all_sites_the_flipped_head_has_the_other_sign(run):
    with faults.faulty(faults.sign_flip(1, 2)):
        found = run(*EVERYTHING)[1]
    assert "L1H2 scale 0 on logit_diff has the other sign" in found["faults"][0]
    [site] = [s for s in found["sites"] if (s["layer"], s["head"], s["scale"]) == (1, 2, 0.0)]
    assert site["sign_flip"]
    assert site["verdict"] == "bug"
    assert found["rank_correlation"] < 0.9


def test_a_drift_of_a_thousandth_is_told(run):
    with faults.faulty(faults.drift(1e-3)):
        code, found = run()
    assert (code, found["verdict"]) == (0, "drift")
    assert found["sign_flips"] == 0


def test_a_stale_buffer_is_a_bug_at_the_sites_that_it_reached(run):
    with faults.faulty(faults.stale_buffer(1)):
        code, found = run()
    assert (code, found["verdict"]) == (1, "bug")
    assert "the effect of L1H" in found["faults"][0]
    assert {site["layer"] for site in found["sites"] if site["verdict"] == "bug"} == {1}
    assert "agrees at every layer" in found["first_difference"]


def test_a_device_that_is_right_again_gives_ok(run):
    with faults.faulty(lambda right, _network: right):
        assert run()[1]["verdict"] == "ok"


DEFAULT = (
    "model=smollm2_135m",
    "dataset.n_examples=4",
    "verify.n_examples=2",
    "verify.n_sites=3",
    "ablation.scales=[0.0]",
    "ablation.layers=[0,11,23]",
    "ablation.heads=[2,4]",
)


@pytest.mark.parametrize(
    ("fault", "verdict", "said"),
    [
        (None, "ok", None),
        pytest.param(faults.sign_flip(23, 4), "bug", "L23H4", marks=pytest.mark.slow),
        pytest.param(faults.drift(3e-4), "drift", "L0H", marks=pytest.mark.slow),
        pytest.param(faults.stale_buffer(23), "bug", "L23H", marks=pytest.mark.slow),
    ],
    ids=["right", "sign flip", "drift", "stale buffer"],
)
def test_the_default_model(run, fault, verdict, said):
    if fault is None:
        code, found = run(*DEFAULT)
    else:
        with faults.faulty(fault):
            code, found = run(*DEFAULT)
    assert found["verdict"] == verdict
    assert code == (verdict == "bug")
    assert said is None or said in f"{found['faults'][0]} {found['first_difference']}"
    assert np.isfinite(found["max_abs_diff"])
