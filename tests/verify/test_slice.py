"""The verify slice says `ok` of a right run, and catches a wrong one."""

import json

import numpy as np
import pytest

from tiny_ablation.engine.executor import Executor
from tiny_ablation.verify.slice import _verdict

TOY = ["model=toy", "tracking=off", "dataset.n_examples=12", "device.threads=1", "stats.n_boot=200", "stats.n_perm=200",
       "hydra.run.dir=run"]  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    from tiny_ablation.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tiny-ablate"])

    def go(*args):
        code = main([*TOY, *args])
        return code, json.loads((tmp_path / "run/metrics/verify.json").read_text())

    return go


@pytest.mark.parametrize("mode", ["cpu", "float64", "auto"])
def test_a_right_run_is_ok(run, mode):
    code, found = run(f"verify={mode}")
    assert code == 0
    assert found["verdict"] == "ok"
    assert set(found["metrics"]["logit_diff"]) == {"main", "verify", "abs_diff", "verdict"}
    assert found["n_examples"] == 4
    assert len(found["sites"]) == 6
    assert found["rank_correlation"] == pytest.approx(1.0)


def wrong(monkeypatch, error):
    """An engine whose values of one site are off."""
    real = Executor.run

    def tampered(self, index, tick):
        result = real(self, index, tick)
        for name, values in result.values.items():
            result.values[name] = values + error
        return result

    monkeypatch.setattr(Executor, "run", tampered)


def test_a_bug_fails_the_run(run, monkeypatch, capsys):
    wrong(monkeypatch, 1.0)
    code, found = run()
    assert code == 1
    assert found["verdict"] == "bug"
    assert "verify: bug" in capsys.readouterr().err


def test_a_bug_can_be_let_through_with_a_warning(run, monkeypatch, capsys):
    wrong(monkeypatch, 1.0)
    code, found = run("verify.on_bug=warn")
    assert (code, found["verdict"]) == (0, "bug")
    assert "warning" in capsys.readouterr().err


def test_drift_is_told(run, monkeypatch):
    wrong(monkeypatch, 5e-3)
    code, found = run()
    assert (code, found["verdict"]) == (0, "drift")


def test_off_writes_nothing(tmp_path, monkeypatch):
    from tiny_ablation.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tiny-ablate"])
    assert main([*TOY, "verify=off"]) == 0
    assert not (tmp_path / "run/metrics/verify.json").exists()


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([[0, 0], [0, 0]], "ok"),
        ([[0, 0], [2e-3, -2e-3]], "noise"),  # single values are off, the mean is not
        ([[0, 0], [2e-3, 2e-3]], "drift"),
        ([[0, 0], [0.1, -0.1]], "bug"),
        ([[0, 0], [float("nan"), 0]], "bug"),
    ],
)
def test_verdicts(differences, verdict):
    assert _verdict(np.zeros((2, 2)), np.array(differences, dtype=float), 1e-3) == verdict
