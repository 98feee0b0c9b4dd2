"""Sweeps that are killed at random moments end, after a rerun, in the bytes of an undisturbed one.

`TINY_ABLATE_KILLS=20` tries more often than the default.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import TOY
from tests.cli.test_sweep import matrices

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("TINY_ABLATE_KILLS", "4"))
HOW = ("kill parent", "kill worker", "terminate", "interrupt")
GRID = (
    "-m", *TOY, "verify=off", "dataset=facts,sva", "dataset.n_examples=12", "seed=0,1", "device.batch_tokens=128",
    "hydra.launcher.n_jobs=2",
)  # fmt: skip


def start(directory: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tiny_ablation", *GRID, f"hydra.sweep.dir={directory}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=directory.parent, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Its matrices, and how long it took."""
    directory = tmp_path_factory.mktemp("undisturbed") / "sweep"
    begun, process = time.monotonic(), start(directory)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return matrices(directory), time.monotonic() - begun


def disturb(process: subprocess.Popen, how: str) -> None:
    parent = psutil.Process(process.pid)
    # not its resource tracker, which is no worker and complains when it is killed
    workers = [p for p in parent.children(recursive=True) if "popen_loky" in " ".join(p.cmdline())]
    if how == "kill worker" and workers:
        random.choice(workers).kill()
    elif how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal: all processes get it
    else:
        parent.send_signal(signal.SIGTERM if how == "terminate" else signal.SIGKILL)


def family(process: subprocess.Popen) -> list[psutil.Process]:
    with_children = [psutil.Process(process.pid)]
    return [*with_children, *with_children[0].children(recursive=True)]


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_sweep_ends_in_the_same_bytes(undisturbed, tmp_path, number):
    expected, seconds = undisturbed
    rng, directory = random.Random(number), tmp_path / "sweep"
    process = start(directory)
    time.sleep(rng.uniform(0.1, 0.95) * seconds)
    if process.poll() is None:
        members = family(process)
        disturb(process, HOW[number % len(HOW)])
        out, _ = process.communicate(timeout=120)
        assert "Traceback" not in out, out
        _, alive = psutil.wait_procs(members, timeout=30)
        assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE], "orphans"
    again = start(directory)
    out, _ = again.communicate(timeout=600)
    assert again.returncode == 0, out
    assert matrices(directory) == expected
