"""The cache of converted models, with a converter that writes a few bytes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiny_ablation.errors import ModelError
from tiny_ablation.models.sources import store

ID = "gguf:" + "ab" * 32

CHILD = """
import sys, time
from pathlib import Path
from tiny_ablation.models.sources.store import converted

def build(directory):
    (directory / "model.safetensors").write_bytes(b"half")
    with open(sys.argv[1], "a") as log:
        log.write("built\\n")
    time.sleep(float(sys.argv[2]))
    (directory / "model.safetensors").write_bytes(b"whole")
    return {}

print(converted("tiny", sys.argv[3], build))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path))
    return tmp_path / "models"


class Builder:
    """Counts how often it had to build."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, directory: Path) -> dict[str, str]:
        self.times += 1
        (directory / "model.safetensors").write_bytes(b"weights")
        (directory / "config.json").write_text("{}")
        return {"tool": "1"}


def child(log: Path, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CHILD, str(log), str(seconds), ID]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


def test_a_model_is_built_once_and_its_record_names_every_file(cache: Path) -> None:
    build = Builder()
    directory = store.converted("tiny", ID, build)
    assert store.converted("tiny", ID, build) == directory
    record = json.loads((directory / "source.json").read_text())
    assert build.times == 1
    assert directory.parent == cache
    assert sorted(record["files"]) == ["config.json", "model.safetensors"]
    assert record["weights_id"] == ID
    assert record["tools"] == {"tool": "1"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"weightz"),
        ("model.safetensors", b"weigh"),
        ("config.json", b"[]"),
        ("source.json", b"{"),
        ("source.json", b"[]"),
        ("source.json", b'{"schema": 1, "weights_id": "gguf:other", "files": {}}'),
    ],
)
def test_an_altered_file_is_found_and_the_model_made_again(
    name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    build = Builder()
    directory = store.converted("tiny", ID, build)
    (directory / name).write_bytes(content)
    assert store.converted("tiny", ID, build) == directory
    assert build.times == 2
    assert (directory / "model.safetensors").read_bytes() == b"weights"
    assert "making it again" in capsys.readouterr().err


def test_a_missing_file_is_found() -> None:
    build = Builder()
    (store.converted("tiny", ID, build) / "model.safetensors").unlink()
    assert (store.converted("tiny", ID, build) / "model.safetensors").exists()
    assert build.times == 2


def test_nothing_is_left_of_a_build_that_fails(cache: Path) -> None:
    def build(directory: Path) -> dict[str, str]:
        (directory / "model.safetensors").write_bytes(b"half")
        raise ModelError("no network")

    with pytest.raises(ModelError, match="no network"):
        store.converted("tiny", ID, build)
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []


def test_a_full_disk_is_one_message_that_names_the_variable() -> None:
    def build(directory: Path) -> dict[str, str]:
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match=r"No space left on device.*TINY_ABLATE_CACHE"):
        store.converted("tiny", ID, build)


def test_a_cache_that_cannot_be_made_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="TINY_ABLATE_CACHE"):
        store.converted("tiny", ID, Builder())


def test_two_processes_build_once_and_the_second_says_that_it_waits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = child(log, 1.0)
    wait_for(log)
    second = child(log, 0.0)
    outputs = [process.communicate(timeout=30) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert log.read_text() == "built\n"
    assert outputs[0][0] == outputs[1][0]
    assert "waiting" in outputs[1][1]


def test_after_a_kill_the_next_process_starts_afresh_and_sweeps(tmp_path: Path, cache: Path) -> None:
    log = tmp_path / "log"
    killed = child(log, 60.0)
    wait_for(log)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=30)
    assert list(cache.glob(".*.tmp-*"))
    directory = store.converted("tiny", ID, Builder())
    assert (directory / "model.safetensors").read_bytes() == b"weights"
    assert not list(cache.glob(".*.tmp-*"))
