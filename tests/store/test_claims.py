"""Claims: one living process a part; what a dead one left is taken up; nobody's claim is touched by others."""

import json
import os
import threading
import time

import pytest

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.claims import Claims, clear_claims, living, somebody_works
from tiny_ablation.store.ledger import keeping


@pytest.fixture
def claims(tmp_path):
    return Claims(tmp_path / "claims", "a layout", dead_after=60)


def left(claims, name="batch_0.0", **changed):
    """A claim as a process leaves it that is killed; by default of this one, which lives."""
    with claims.holding("batch_9"):
        said = json.loads((claims.directory / "batch_9.0").read_text())
    path = claims.directory / name
    path.write_text(json.dumps(said | changed))
    return path


def names(claims):
    return sorted(path.name for path in claims.directory.iterdir())


def test_a_part_is_one_process_s_until_it_lets_go(claims):
    with claims.holding("batch_0") as mine, claims.holding("batch_0") as again, claims.holding("end") as other:
        assert (mine, again, other) == (True, False, True)
        assert somebody_works(claims.directory)
    assert names(claims) == []
    with claims.holding("batch_0") as mine:
        assert mine


def test_of_many_at_once_one_gets_it(claims):
    won, start, stop = [], threading.Barrier(16), threading.Barrier(16)

    def race():
        start.wait()
        with claims.holding("batch_0") as mine:
            won.append(mine)
            stop.wait()

    threads = [threading.Thread(target=race) for _ in range(16)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(won) == [False] * 15 + [True]


def test_what_a_killed_process_left_is_taken_up_at_once_and_its_file_stays(claims):
    left(claims, started=1.0)  # another process has its number by now
    assert not somebody_works(claims.directory)
    with claims.holding("batch_0") as mine:
        assert mine
        assert names(claims) == ["batch_0.0", "batch_0.1"]


def test_a_process_of_another_machine_is_dead_when_it_was_not_heard_of_for_long(claims):
    path = left(claims, host="elsewhere", pid=1)
    for age, taken in ((50, False), (70, True)):
        os.utime(path, (time.time() - age, time.time() - age))
        with claims.holding("batch_0") as mine:
            assert mine == taken


def test_the_clock_is_that_of_the_files(claims, monkeypatch):
    path = left(claims, host="elsewhere", pid=1)
    monkeypatch.setattr(time, "time", lambda: 1e12)  # the clock of this machine is wrong
    assert living(path)


def test_a_claim_is_touched_while_it_is_held(tmp_path):
    claims = Claims(tmp_path, "", dead_after=0.12)
    with claims.holding("batch_0"):
        before = (tmp_path / "batch_0.0").stat().st_mtime_ns
        time.sleep(0.3)
        assert (tmp_path / "batch_0.0").stat().st_mtime_ns > before + 2e8


def test_one_that_is_being_written_counts(claims):
    left(claims).write_text("")
    with claims.holding("batch_0") as mine:
        assert not mine


def test_a_process_that_cut_the_run_in_another_way_is_refused(claims):
    left(claims, layout="another")
    with pytest.raises(ResultsError, match=r"same run\.shards"), claims.holding("batch_0"):
        pass


def test_a_damaged_claim_is_named(claims):
    left(claims).write_text("[1]")
    with pytest.raises(ResultsError, match=r"batch_0\.0 cannot be read"), claims.holding("batch_0"):
        pass


def test_all_are_cleared_by_a_process_that_did_not_make_them_and_no_other_file(claims, tmp_path):
    with keeping(tmp_path) as ledger:
        with claims.holding("batch_3"):
            text = (claims.directory / "batch_3.0").read_bytes()
        del ledger.written["claims/batch_3.0"]  # what another process writes is not in the memory of this one
        (claims.directory / "batch_3.0").write_bytes(text)
        (claims.directory / "batch_4.0").write_text("of the user")
        clear_claims(claims.directory)
    assert names(claims) == ["batch_4.0"]
