import subprocess
import sys

from tiny_ablation.commands import ui


def test_without_a_store_nothing_is_started(cli, monkeypatch):
    monkeypatch.setattr(
        ui.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(AssertionError("started"))
    )
    done = cli("ui")
    assert done.code == 2
    assert "mlflow.db is missing" in done.err


def test_a_server_is_named_and_not_started(cli, monkeypatch):
    monkeypatch.setattr(
        ui.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(AssertionError("started"))
    )
    done = cli("ui", "tracking.uri=https://example.org/mlflow")
    assert (done.code, "open https://example.org/mlflow" in done.out) == (0, True)


def test_it_listens_on_the_loopback_interface_on_the_store_of_this_directory(cli, monkeypatch, tmp_path):
    started = []

    def run(arguments, **_):
        started.append(arguments)
        return subprocess.CompletedProcess(arguments, 0)

    (tmp_path / "mlflow.db").write_bytes(b"")
    monkeypatch.setattr(ui.subprocess, "run", run)
    assert cli("ui", "--port", "5055").code == 0
    store = f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}"
    assert started == [
        [
            sys.executable,
            "-m",
            "mlflow",
            "ui",
            "--backend-store-uri",
            store,
            "--host",
            "127.0.0.1",
            "--port",
            "5055",
        ]
    ]
