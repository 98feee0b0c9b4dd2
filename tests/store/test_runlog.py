"""The log of a run: bounded, and never in the way."""

import logging

import pytest

from tiny_ablation.store import runlog
from tiny_ablation.store.runlog import RunLog


@pytest.fixture
def write(tmp_path):
    """Writes lines into a log in a directory; returns what stands there."""

    def lines(directory, n):
        handler = RunLog(str(directory / "run.log"))
        logger = logging.Logger("a test")
        logger.addHandler(handler)
        for i in range(n):
            logger.warning("line %d %s", i, "x" * 100)
        handler.close()
        return sorted(directory.glob("run.log*"))

    return lines


def test_nothing_said_is_no_file(write, tmp_path):
    assert write(tmp_path, 0) == []


def test_it_is_bounded_and_keeps_the_newest(write, tmp_path, monkeypatch):
    monkeypatch.setattr(runlog, "MAX_BYTES", 5_000)
    files = write(tmp_path, 500)
    assert [path.name for path in files] == ["run.log", "run.log.1"]
    assert sum(path.stat().st_size for path in files) <= 10_000
    assert "line 499 " in files[0].read_text()


def test_a_file_or_directory_of_the_users_gets_no_log(write, tmp_path):
    (tmp_path / "run.log").write_text("of the user")
    assert write(tmp_path, 3) == [tmp_path / "run.log"]
    assert (tmp_path / "run.log").read_text() == "of the user"
    assert not (tmp_path / ".ledger").exists()


def test_one_that_cannot_be_written_is_no_error(write, tmp_path, capsys):
    assert write(tmp_path / "not there", 3) == []
    assert capsys.readouterr().err == ""
