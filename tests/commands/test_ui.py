import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tiny_ablation.commands import ui


def test_without_a_store_nothing_is_started(cli, monkeypatch):
    monkeypatch.setattr(ui.subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(AssertionError("started")))
    done = cli("ui")
    assert done.code == 2
    assert "mlflow.db is missing" in done.err


def test_a_server_is_named_and_not_started(cli, monkeypatch):
    monkeypatch.setattr(ui.subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(AssertionError("started")))
    done = cli("ui", "tracking.uri=https://example.org/mlflow")
    assert (done.code, "open https://example.org/mlflow" in done.out) == (0, True)


SERVER = """
import os, pathlib, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
said = [str(os.getpid()), str(worker.pid), os.environ["MLFLOW_BACKEND_STORE_URI"], *sys.argv[1:]]
pathlib.Path("said.part").write_text("\\n".join(said))
os.replace("said.part", "said")
time.sleep(100)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_shows_the_store_on_the_loopback_interface_and_ends_with_its_server(tmp_path, number):
    """With a server of its own in the place of MLflow's."""
    (tmp_path / "fake/mlflow").mkdir(parents=True)
    (tmp_path / "fake/mlflow/__init__.py").touch()
    (tmp_path / "fake/mlflow/__main__.py").write_text(SERVER)
    (tmp_path / "mlflow.db").write_bytes(b"")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "fake"), *sys.path])}
    command = [sys.executable, "-m", "tiny_ablation", "ui", "--port", "5055"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 100
    while not (tmp_path / "said").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    server, worker, store, *how = (tmp_path / "said").read_text().splitlines()
    assert store == f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}"
    assert how == ["ui", "--host", "127.0.0.1", "--port", "5055"]
    process.send_signal(number)
    assert process.wait(60) == 130
    process.stdout.close()
    _, alive = psutil.wait_procs(
        [psutil.Process(int(pid)) for pid in (server, worker) if psutil.pid_exists(int(pid))], timeout=30
    )
    assert alive == []


def test_a_password_is_not_shown(cli):
    done = cli("ui", "tracking.uri=https://me:secret@example.org/mlflow")
    assert (done.code, "open https://***@example.org/mlflow" in done.out) == (0, True)
    assert "secret" not in done.out + done.err
    assert "MLFLOW_TRACKING_URI" not in os.environ
