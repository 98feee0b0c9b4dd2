"""Whole runs on a toy model, through the command line, and what their verify slice found."""

import json

import pytest

from tiny_ablation.cli import main

TOY = [
    "model=toy",
    "tracking=off",
    "dataset.relations=null",
    "dataset.n_examples=12",
    "device.threads=1",
    "stats.n_boot=200",
    "stats.n_perm=200",
    "hydra.run.dir=run",
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `tiny-ablate ARGS`; returns the exit code and the content of metrics/verify.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tiny-ablate"])

    def go(*args):
        code = main([*TOY, *args])
        return code, json.loads((tmp_path / "run/metrics/verify.json").read_text())

    return go
