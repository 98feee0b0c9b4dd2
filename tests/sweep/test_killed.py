"""Sweeps, and workers of one run, that are killed at random moments end, after a rerun, in the bytes of an undisturbed one.

`TINY_ABLATE_KILLS=20` tries more often than the default.
"""

import contextlib
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
from tiny_ablation.store.manifest import read_manifest
from tiny_ablation.store.rundir import RunDir

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("TINY_ABLATE_KILLS", "4"))
HOW = ("kill parent", "kill worker", "terminate", "interrupt")
LONG = (*TOY, "verify=off", "dataset.n_examples=40", "device.batch_tokens=64", f"ablation.scales={[i / 40 for i in range(40)]}")
GRIDS = {
    "cells": (*TOY, "verify=off", "dataset=facts,sva", "dataset.n_examples=12", "seed=0,1", "device.batch_tokens=128"),
    "workers of one run": (*LONG, "run.shards=6"),
}


def start(directory: Path, grid: str) -> subprocess.Popen:
    return spawn(directory, "-m", *GRIDS[grid], "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={directory}")


def spawn(directory: Path, *args: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tiny_ablation", *args]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=directory.parent,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module", params=GRIDS)
def undisturbed(request, tmp_path_factory):
    """Which sweep, its matrices, and how long it took."""
    directory = tmp_path_factory.mktemp("undisturbed") / "sweep"
    begun, process = time.monotonic(), start(directory, request.param)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    return request.param, matrices(directory), time.monotonic() - begun


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
    grid, expected, seconds = undisturbed
    rng, directory = random.Random(number), tmp_path / "sweep"
    process = start(directory, grid)
    time.sleep(rng.uniform(0.1, 0.95) * seconds)
    if process.poll() is None:
        members = family(process)
        disturb(process, HOW[number % len(HOW)])
        out, _ = process.communicate(timeout=120)
        assert "Traceback" not in out, out
        _, alive = psutil.wait_procs(members, timeout=30)
        assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE], "orphans"
    again = start(directory, grid)
    out, _ = again.communicate(timeout=600)
    assert again.returncode == 0, out
    assert matrices(directory) == expected


def test_when_one_of_three_workers_is_killed_the_others_end_the_run(tmp_path):
    def workers(name, n):
        return [spawn(tmp_path, *LONG, "run.shards=3", f"hydra.run.dir={tmp_path / name}") for _ in range(n)]

    def ended(processes):
        for process in processes:
            out, _ = process.communicate(timeout=600)
            assert process.returncode == 0, out

    ended(workers("alone", 1))
    first, *others = workers("together", 3)
    claims = RunDir(tmp_path / "together").claims
    while first.poll() is None and not at_work(first.pid, claims):
        time.sleep(0.002)
    first.kill()
    first.communicate()
    assert at_work(first.pid, claims), "it was killed too late"
    ended(others)
    for table in ("per_example", "head_impact"):
        one, several = (tmp_path / name / f"metrics/{table}.parquet" for name in ("alone", "together"))
        assert one.read_bytes() == several.read_bytes()
    assert read_manifest(tmp_path / "together").status == "ok"
    assert not (tmp_path / "together/partial").exists()


def at_work(pid: int, claims: Path) -> bool:
    """Whether a process has a claim on a batch."""
    with contextlib.suppress(FileNotFoundError):
        return any(f'"pid": {pid},' in path.read_text() for path in claims.glob("batch_*"))
    return False
