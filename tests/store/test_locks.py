"""Who is at work where."""

import subprocess
import sys
import threading

from tiny_ablation.store.locks import hold, is_held, is_locked, waiting

USER = "import sys; from pathlib import Path; from tiny_ablation.store.locks import hold; hold(Path(sys.argv[1])); print('up', flush=True); input()"  # noqa: E501


def start(path):
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    return process


def test_a_directory_is_held_until_its_last_user_is_killed(tmp_path):
    users = [start(tmp_path), start(tmp_path)]
    for user in users:
        assert is_held(tmp_path)
        user.kill()
        user.communicate()
    assert not is_held(tmp_path)


def test_this_process_counts(tmp_path):
    assert not is_held(tmp_path)
    assert hold(tmp_path) == hold(tmp_path) == tmp_path
    assert is_held(tmp_path)


def test_what_is_not_there_is_neither_held_nor_locked(tmp_path):
    hold(tmp_path / "gone")
    assert not is_locked(tmp_path / "gone")


def test_who_waits_for_a_lock_is_told_so_once(tmp_path):
    told, inside, asked = [], threading.Event(), threading.Event()

    def hold_it():
        with waiting(tmp_path / ".lock", lambda: told.append("first")):
            inside.set()
            asked.wait(10)

    def tell():
        told.append("second")
        asked.set()

    other = threading.Thread(target=hold_it)
    other.start()
    assert inside.wait(10)
    with waiting(tmp_path / ".lock", tell):
        assert told == ["second"]
    other.join()


def test_a_lock_file_that_nobody_holds(tmp_path):
    (tmp_path / ".lock").touch()
    assert not is_locked(tmp_path / ".lock")
