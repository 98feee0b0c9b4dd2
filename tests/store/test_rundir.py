import os
import subprocess
import sys

import pytest

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.rundir import RunDir

_HOLD = (
    "import sys, time; from pathlib import Path; from tiny_ablation.store.rundir import RunDir\n"
    "with RunDir(Path(sys.argv[1])).lock(): print('held', flush=True); time.sleep(60)"
)


def hold(path):
    child = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    return child


def test_names(tmp_path):
    run = RunDir(tmp_path)
    relative = [
        p.relative_to(tmp_path).as_posix() for p in (run.summary, run.per_example, run.table("pair_impact"))
    ]
    assert relative == ["metrics/summary.json", "metrics/per_example.parquet", "metrics/pair_impact.parquet"]


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    child = hold(tmp_path / "run")
    run = RunDir(tmp_path / "run")
    try:
        with (
            pytest.raises(ResultsError, match=f"Another process .pid {child.pid}. is writing in"),
            run.lock(),
        ):
            pass
    finally:
        child.kill()
        child.communicate()
    with run.lock():
        assert (run.path / ".lock-holder").read_text() == str(os.getpid())


def test_the_lock_refuses_its_own_process_too(tmp_path):
    run = RunDir(tmp_path)
    with run.lock(), pytest.raises(ResultsError, match=str(os.getpid())), run.lock():
        pass
    with run.lock():
        pass


def test_the_lock_cleans_up_after_a_killed_writer(tmp_path):
    stale = tmp_path / "metrics" / ".tmp-00.json"
    stale.parent.mkdir()
    stale.write_text("half")
    with RunDir(tmp_path).lock():
        assert not stale.exists()


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(ResultsError, match="Cannot write in"), RunDir(tmp_path / "f" / "run").lock():
        pass
