"""Every experiment that ships runs, on a toy model."""

import json
from pathlib import Path

import pytest

from tiny_ablation.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (REPOSITORY / "conf/experiment").glob("*.yaml"))
FAST = (
    "model=toy",
    "tracking=off",
    "verify=off",
    "dataset.n_examples=12",
    "device.threads=1",
    "stats.n_boot=200",
    "stats.n_perm=200",
    "hydra.run.dir=run",
    "hydra.sweep.dir=run",
    "hydra.launcher.n_jobs=1",
)
# The toy model has fewer heads than the default model whose strongest are named.
SMALLER = {
    "h5_backup_circuits": ('ablation.of=["0.0","0.3","1.1"]',),
    "h7_sae_features": (
        f"sae.corpus={REPOSITORY / 'docs'}",
        "sae.width=32",
        "sae.k=4",
        "sae.context=16",
        "sae.steps=30",
        "sae.own_samples=2",
        "sae.batch=32",
        "sae.tokens=640",
        "sae.held_out=256",
    ),
    "robustness": ("ablation=heads_zero,heads_mean_template,heads_resample_skip,heads_patch", "model.weights=raw"),
}


@pytest.mark.parametrize(
    "name", [n if n == "h1_head_specialization" else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_runs(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if "sae" in name:
        monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.argv", ["tiny-ablate"])
    assert main([f"experiment={name}", *FAST, *SMALLER.get(name, ())]) == 0
    assert list(tmp_path.glob("run/**/metrics/*_impact.parquet"))


@pytest.mark.slow
def test_robustness_says_which_heads_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tiny-ablate"])
    assert main(["experiment=robustness", *FAST, "ablation=heads_zero", "model.weights=raw,folded"]) == 0
    found = json.loads((tmp_path / "run/artifacts/cross_condition/robustness.json").read_text())
    assert found["conditions"] == ["zero raw", "zero folded"]
    # The toy model's norms carry nothing that zero ablation could see differently, so both say the same.
    assert found["lowest"]["spearman"] == pytest.approx(1.0)
    assert (tmp_path / "run/artifacts/cross_condition/robustness.parquet").is_file()


def test_all_are_there():
    assert {
        "h1_head_specialization",
        "h2_layer_geometry",
        "h5_backup_circuits",
        "h6_asymmetry",
        "h7_sae_features",
        "robustness",
    } <= set(NAMES)
