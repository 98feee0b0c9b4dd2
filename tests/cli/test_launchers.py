"""The launchers of clusters, run for real on this machine: a local Ray, and submitit's local executor.

They live in an environment of their own on top of the usual one; `make test-slow` makes it.
"""

import os
import subprocess

import pandas as pd
import pytest

from tests.cli.conftest import REPOSITORY, TOY
from tiny_ablation.store.sweepdir import SweepDir

PYTHON = REPOSITORY / ".venv-launchers/bin/python"
GRID = ("-m", *TOY, "verify=off", "dataset=facts", "dataset.n_examples=12", "seed=0,1")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.is_file(), reason="no launchers installed: make test-slow installs them"),
]


def sweep(tmp_path, *overrides):
    """The head matrix of a sweep with these overrides."""
    done = subprocess.run(
        [PYTHON, "-m", "tiny_ablation", *GRID, *overrides, "hydra.sweep.dir=sweep"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return pd.read_parquet(SweepDir(tmp_path / "sweep").cross / "head_matrix.parquet")


@pytest.fixture(scope="module")
def basic(tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("basic"), "hydra/launcher=basic")


@pytest.mark.parametrize(
    "overrides",
    [
        ("hydra/launcher=local", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=submitit_local",),
        ("hydra/launcher=ray_cluster", "hydra.launcher.ray.remote.num_cpus=1"),
    ],
    ids=["joblib", "submitit", "ray"],
)
@pytest.mark.parametrize("workers", [(), ("run.shards=2",)], ids=["cells", "workers of each run"])
def test_every_launcher_gives_the_same_matrix(basic, tmp_path, overrides, workers):
    found = sweep(tmp_path, *overrides, *workers)
    pd.testing.assert_frame_equal(found, basic, atol=5e-5, rtol=0)
