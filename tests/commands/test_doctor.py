import json
import os
import platform
import sqlite3
import subprocess
import sys

import pytest

from tiny_ablation.commands.doctor import _tracking, _tracking_line
from tiny_ablation.config.schema import TrackingBackend, TrackingConfig

CPU = ("device=cpu", "device.threads=1")


@pytest.fixture
def line(tmp_path, monkeypatch):
    """What is said of a tracking config, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return lambda **keys: _tracking_line(_tracking(TrackingConfig(**keys)))


def test_says_what_there_is(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    monkeypatch.delenv("TINY_ABLATE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    result = cli("doctor", *CPU)
    assert result.code == 0, result.out
    for said in (
        "Devices",
        "torch ",
        "ready offline: ",
        "toy",
        "no store here yet",
        "the same bits",
        "Nothing is known to be wrong here.",
    ):
        assert said in result.out
    assert "somebody" not in result.out
    assert len(platform.node()) < 4 or platform.node() not in result.out
    assert not list(tmp_path.iterdir())  # it leaves nothing behind


def test_json_and_a_problem(cli, monkeypatch):
    monkeypatch.setattr("tiny_ablation.models.device.known_bad", lambda name: "broken" if name == "cpu" else None)
    monkeypatch.setattr("tiny_ablation.verify.doctor.devices", list)
    result = cli("doctor", "--json", *CPU)
    assert result.code == 1
    found = result.json()
    assert set(found) == {"version", "machine", "devices", "packages", "models", "cache", "tracking", "probe", "problems"}
    assert "broken" in found["probe"]["error"]
    assert len(found["problems"]) == 2


def test_a_wrong_setting_is_the_users(cli):
    assert cli("doctor", "device=cup").code == 2
    assert cli("doctor", "ablation.layers=[99]", *CPU).code == 2


@pytest.mark.parametrize("absent", [("torch",), ("transformer_lens", "sae_lens", "mlflow", "psutil")])
def test_survives_what_is_not_installed(tmp_path, absent):
    code = "import sys; sys.modules.update(dict.fromkeys(sys.argv[1].split(',')))\n"
    code += "from tiny_ablation.cli import main; sys.exit(main(['doctor', '--json', 'device=cpu']))"
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(absent)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert any(name in found["probe"]["error"] for name in absent)
    assert any("could not be run" in text for text in found["problems"])
    assert found["models"]


def test_the_tracking_store(line, tmp_path):
    assert line(backend=TrackingBackend.off) == "off"
    assert line() == "no store here yet; the first run makes mlflow.db"
    with sqlite3.connect("mlflow.db") as store:
        store.execute("create table runs (id)")
        store.executemany("insert into runs values (?)", [(1,), (2,)])
    store.close()
    assert line() == "a sqlite store with 2 runs"
    assert line(uri=f"sqlite:///{tmp_path}/mlflow.db") == "a sqlite store with 2 runs"
    (tmp_path / "broken.db").write_text("not a database, " * 100)
    assert "cannot be read" in line(uri=f"sqlite:///{tmp_path}/broken.db")


def test_the_address_of_a_server_is_not_told(line):
    said = line(uri="https://me:secret@tracking.example")
    assert "secret" not in said
    assert "server" in said
