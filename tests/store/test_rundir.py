import os
import subprocess
import sys

import pytest

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.ledger import read_ledger
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
    relative = [p.relative_to(tmp_path).as_posix() for p in (run.summary, run.per_example, run.table("pair_impact"))]
    assert relative == ["metrics/summary.json", "metrics/per_example.parquet", "metrics/pair_impact.parquet"]


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    child = hold(tmp_path / "run")
    run = RunDir(tmp_path / "run")
    try:
        with pytest.raises(ResultsError, match=f"Another process .pid {child.pid}. is writing in"), run.lock():
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


def test_the_lock_cleans_up_after_a_killed_writer_of_its_own(tmp_path):
    with RunDir(tmp_path).lock():
        pass
    ledger = read_ledger(tmp_path)
    stale, theirs = (tmp_path / "metrics" / f".tmp-{token}00.json" for token in (ledger.token, ""))
    stale.parent.mkdir()
    stale.write_text("half")
    theirs.write_text("of the user")
    with RunDir(tmp_path).lock():
        assert not stale.exists()
    assert theirs.read_text() == "of the user"


@pytest.mark.parametrize("name", [".lock", ".lock-holder", "metrics", "run.log", "partial"])
def test_a_link_out_of_the_directory_is_refused_and_not_followed(tmp_path, name):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("of the user")
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    (run.path / name).symlink_to(theirs if name in ("metrics", "partial") else theirs / "thesis.tex")
    with pytest.raises(ResultsError, match=f"{name} is a link out of"), run.lock():
        pass
    assert (theirs / "thesis.tex").read_text() == "of the user"


@pytest.mark.parametrize("name", [".lock", ".lock-holder", ".ledger"])
def test_a_file_of_the_users_in_the_place_of_a_lock_is_refused(tmp_path, name):
    (tmp_path / name).write_text("of the user")
    with pytest.raises(ResultsError, match=f"{name} was not written by tiny-ablate"), RunDir(tmp_path).lock():
        pass
    assert (tmp_path / name).read_text() == "of the user"


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(ResultsError, match="Cannot write in"), RunDir(tmp_path / "f" / "run").lock():
        pass
