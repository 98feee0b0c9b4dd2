"""Running the command line, in this process where that is enough."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Result

REPOSITORY = Path(__file__).resolve().parents[2]
TOY = (
    "model=toy",
    "tracking=off",
    "dataset.relations=null",
    "dataset.n_examples=20",
    "device.threads=1",
    "stats.n_boot=200",
    "stats.n_perm=200",
)


@pytest.fixture
def shell(tmp_path):
    """Runs `python -m tiny_ablation ARGS` as a process of its own in an empty directory."""

    def run(*args: str, **env: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "tiny_ablation", *args],
            cwd=tmp_path,
            env={**os.environ, **env},
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


def write_rows(path: Path, *rows: dict) -> str:
    """A JSONL corpus; returns the override that uses it."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"dataset.path={path.name}"


def deterministic_files(directory: Path) -> dict[str, bytes]:
    """Every file of a run that must be equal for equal runs."""
    manifest = json.loads((directory / "manifest.json").read_text())
    return {name: (directory / name).read_bytes() for name in [*manifest["files"], "manifest.json"]}
