"""A job knows its cell, whether it is done, and leaves word when it fails."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from hydra import compose, initialize_config_dir

from tiny_ablation.ablations.registry import register_schemas
from tiny_ablation.config import schema
from tiny_ablation.config.identity import Identity
from tiny_ablation.errors import BusyError, DataError, ResultsError
from tiny_ablation.paths import conf_dir
from tiny_ablation.store.claims import Claims
from tiny_ablation.store.manifest import read_manifest, write_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.sweepdir import Cell, SweepPlan, read_plan, write_plan
from tiny_ablation.sweep.job import admit, find_cell, is_done, record_failure, settings_of
from tiny_ablation.sweep.state import sweep_status

OF_TWO = {"weights": "two", "versions": {"torch": "2"}}
CELLS = (Cell(0, "a/0", "a", 0, ("dataset=a",)), Cell(1, "b/0", "b", 0, ("dataset=b",)))


@pytest.fixture
def sweep(tmp_path):
    write_plan(tmp_path, SweepPlan("d", ("dataset",), CELLS))
    return tmp_path


def test_a_job_finds_its_cell(sweep):
    assert find_cell(sweep, 1)[1] == CELLS[1]
    with pytest.raises(ResultsError, match="job 7 is none of them"):
        find_cell(sweep, 7)


def test_a_failure_is_told_by_status(sweep):
    record_failure(RunDir(sweep / "b/0"), CELLS[1], DataError("row 3 cannot be scored"))
    manifest = read_manifest(sweep / "b/0")
    assert (manifest.status, manifest.error) == ("failed", "row 3 cannot be scored")
    states = sweep_status(sweep)
    assert [state.state for state in states] == ["missing", "failed"]
    assert states[1].error == "row 3 cannot be scored"


def test_an_old_result_does_not_hide_a_new_failure(sweep):
    rundir = RunDir(sweep / "a/0")
    record_failure(rundir, CELLS[0], DataError("first"))
    (rundir.path / "config.yaml").write_text("old: 1")
    record_failure(rundir, CELLS[0], DataError("second"))
    assert read_manifest(rundir.path).error == "second"


def test_a_worker_that_fails_does_not_undo_the_run_that_others_finished(pinned, tmp_path):
    rundir, cell = RunDir(tmp_path / "a/0"), pinned[1]
    with rundir.lock():
        write_manifest(rundir, run_id="one", status="ok", digest="one", covers={"weights": "one"}, error=None, extra={})
    record_failure(rundir, cell, DataError("memory"), others=True)
    assert read_manifest(rundir.path).status == "ok"
    record_failure(rundir, cell, DataError("memory"))  # of the only process, which was told to make it anew
    assert read_manifest(rundir.path).status == "failed"


def test_nothing_is_written_where_another_process_is_at_work(sweep):
    record_failure(RunDir(sweep / "a/0"), CELLS[0], BusyError("Another process is writing"))
    assert not (sweep / "a/0").exists()


@pytest.fixture
def pinned(tmp_path):
    """A plan that says what its runs are made of, and its cell."""
    cell = Cell(0, "a/0", "a", 0, (), "one", {"weights": "one"})
    plan = SweepPlan("d", (), (cell,), content={"versions": {"torch": "2"}})
    write_plan(tmp_path, plan)
    return plan, cell


def test_workers_take_the_gpus_in_turn_and_write_the_same_config(sweep, monkeypatch):
    """As one process does, which takes the first; the machine is no part of what is written down."""
    schema.register()
    register_schemas()
    written = []
    for parent in (os.getpid(), os.getpid() + 1):
        monkeypatch.setenv("TINY_ABLATE_SWEEP_PARENT", str(parent))
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("config", ["model=toy"])
        settings = settings_of(cfg, read_plan(sweep), CELLS[1])
        written.append((settings.root.device.index, settings.plain))
    assert [index for index, _ in written] == [None, 1]
    assert written[0][1] == written[1][1]


def test_only_the_planned_run_is_admitted(pinned):
    plan, cell = pinned
    admit(plan, cell, Identity("one", {}))
    with pytest.raises(ResultsError, match=r"has changed since it was planned \(weights two there, one here\)"):
        admit(plan, cell, Identity("two", OF_TWO))
    with pytest.raises(ResultsError, match="another config"):
        admit(plan, cell, Identity("three", OF_TWO | {"weights": "one"}))
    with pytest.raises(ResultsError, match="the model could not be had"):
        admit(plan, CELLS[0], Identity("one", {}))


def test_only_the_planned_run_counts_as_done(pinned, tmp_path):
    rundir = RunDir(tmp_path / "a/0")
    assert not is_done(rundir, "one")
    write_manifest(rundir, run_id="r", status="ok", digest="one", covers={})
    assert is_done(rundir, "one")
    assert not is_done(rundir, "two")
    assert not is_done(rundir, "")


@pytest.mark.parametrize("left", ["results", "batches"])
def test_another_run_in_a_cells_place_is_told_and_left_alone(pinned, tmp_path, left):
    rundir, cell = RunDir(tmp_path / "a/0"), pinned[1]
    if left == "results":
        write_manifest(rundir, run_id="r", status="ok", digest="two", covers=OF_TWO)
    else:
        rundir.partial(Identity("two", OF_TWO), "").save(0, {"a": np.zeros(2)})
    before = sorted(rundir.path.rglob("*"))
    record_failure(rundir, cell, DataError("refused"))
    assert sorted(rundir.path.rglob("*")) == before
    (state,) = sweep_status(tmp_path)
    assert state.state == "failed"
    assert "weights two there, one here" in state.error


def test_short_memory_is_told_in_words(sweep):
    record_failure(RunDir(sweep / "a/0"), CELLS[0], MemoryError())
    assert str(read_manifest(sweep / "a/0").error).startswith("memory ran out")


def test_status_sees_workers_of_one_run(sweep):
    with Claims(RunDir(sweep / "a/0").claims, "", 60).holding("batch_0"):
        assert sweep_status(sweep)[0].state == "running"
    assert sweep_status(sweep)[0].state != "running"


def test_status_sees_a_run_at_work(sweep):
    with RunDir(sweep / "a/0").lock():
        code = (
            "import pathlib, sys; from tiny_ablation.sweep.state import sweep_status\n"
            "print(sweep_status(pathlib.Path(sys.argv[1]))[0].state)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(sweep)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "running"


def test_a_worker_does_not_outlive_its_parent(tmp_path):
    """The parent is killed without a chance to say so."""
    worker = (
        "import time; from tiny_ablation.sweep.job import die_with_parent; die_with_parent()\n"
        "print('up', flush=True); time.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys\n"
        "os.environ['TINY_ABLATE_SWEEP_PARENT'] = str(os.getpid())\n"
        f"child = subprocess.Popen([sys.executable, '-c', {worker!r}], stdout=subprocess.PIPE, text=True)\n"
        "child.stdout.readline(); print(child.pid, flush=True); child.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.1)


@pytest.mark.slow
def test_workers_that_had_nothing_to_do_yet_end_with_a_killed_parent(tmp_path):
    """Also those whose parent is killed while they start."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal, threading\n"
        "from joblib import Parallel, delayed\n"
        "from tiny_ablation.sweep.job import die_with_parent\n"
        "if __name__ == '__main__':\n"
        "    os.environ['TINY_ABLATE_SWEEP_PARENT'] = str(os.getpid())\n"
        "    delay = float(__import__('sys').argv[1])\n"
        "    threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()\n"
        "    parallel = Parallel(n_jobs=2, backend='loky', initializer=die_with_parent)\n"
        "    parallel(delayed(__import__('time').sleep)(60) for _ in range(2))\n"
    )
    for delay in ("0.3", "0.9", "3"):
        process = subprocess.Popen([sys.executable, str(script), delay], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.communicate(timeout=30)  # ends when no worker holds its output any more
        assert process.returncode == -signal.SIGKILL
