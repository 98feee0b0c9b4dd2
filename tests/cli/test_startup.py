"""Asking for help or the config must not cost the import of a deep-learning stack."""

import os
import subprocess
import sys

import pytest

from tiny_ablation import __version__

HEAVY = ("torch", "pandas", "numpy", "mlflow", "matplotlib", "transformers", "transformer_lens", "sae_lens", "scipy")


@pytest.mark.parametrize("args", [("--cfg", "job"), ("--help",), ("--version",), ("ablation=nope",)])
def test_nothing_heavy_is_imported(tmp_path, args):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tiny_ablation", *args],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "HYDRA_FULL_ERROR": "0"},
    )
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "tiny_ablation.cli" in imported
    assert [name for name in HEAVY if name in imported] == []
    assert list(tmp_path.iterdir()) == []


def test_version(cli):
    assert cli("--version").out.strip() == f"tiny-ablate {__version__}"


def test_help_shows_groups_and_usage(cli):
    shown = cli("--help").out
    for word in ("usage: tiny-ablate", "-m, --multirun", "heads_zero", "smollm2_135m", "--config-dir", "Exit codes"):
        assert word in shown


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    command = f"{sys.executable} -m tiny_ablation --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
