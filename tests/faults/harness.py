"""The real command line as a process of its own, in a directory of its own, and what its end must look like."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.faults.zygote import Forked, Zygote

REPOSITORY = Path(__file__).resolve().parents[2]
Process = subprocess.Popen[str] | Forked
INJECT = Path(__file__).with_name("inject")
LIMIT = 300  # seconds until a process counts as hanging
_MAIN = "from tiny_ablation.cli import entry\nentry()"


class Lost(AssertionError):
    """Something that was finished is not there any more, or can never be finished."""


class Wrong(AssertionError):
    """The results are not those of an undisturbed run, and nothing says so."""


class Unclear(AssertionError):
    """A person would not know what is wrong, where, or what to do."""


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    code: int
    out: str
    err: str

    def told(self, *words: str, code: int = 2) -> None:
        """It ended with one line that says what is wrong and holds `words`, and without a traceback.

        Raises:
            Unclear: it did not.
        """
        errors = [line for line in self.err.splitlines() if line.startswith("tiny-ablate: error: ")]
        clear = len(errors) == 1 and all(word in errors[0] for word in words)
        if self.code != code or not clear or not self.is_calm or "HYDRA_FULL_ERROR" in self.err:
            raise Unclear(f"exit code {self.code}, wanted {code} and {words}: {self.err[-2000:]}")

    def interrupted(self) -> None:
        """It was stopped by a signal, says so in one line, and has exit code 130.

        Raises:
            Unclear: it did not.
        """
        lines = [line for line in self.err.splitlines() if "interrupted" in line]
        if self.code != 130 or len(lines) != 1 or not self.is_calm:
            raise Unclear(f"exit code {self.code}, wanted 130: {self.err[-2000:]}")

    @property
    def is_calm(self) -> bool:
        """Whether no traceback was printed."""
        return "Traceback" not in self.out + self.err

    def worked(self) -> None:
        """It ended well.

        Raises:
            Lost: it did not, so what it should have made cannot be had.
        """
        if self.code != 0 or not self.is_calm:
            raise Lost(f"exit code {self.code}: {self.err[-2000:]}")


@dataclass(frozen=True)
class Scene:
    """A command, and what of its results equal runs have in common.

    Attributes:
        name: in the table.
        args: the command line.
        results: reads, in the directory it was started from, the bytes of every file that equal runs share.
        prepare: makes a new directory ready.
        prelude: Python that runs before the command line, in its process.
        env: of the process.
    """

    name: str
    args: tuple[str, ...]
    results: Callable[[Path], dict[str, bytes]]
    prepare: Callable[[Path], object] = lambda place: None
    prelude: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


def start(
    scene: Scene,
    place: Path,
    *more: str,
    prelude: str = "",
    env: Mapping[str, str] | None = None,
    limits: Mapping[int, int] | None = None,
    stdout: int = subprocess.PIPE,
    zygote: Zygote | None = None,
) -> Process:
    """The scene's command, as the leader of a process group.

    Args:
        scene: what to run.
        place: where; the cache is in it.
        more: further arguments.
        prelude: further Python to run first.
        env: further environment.
        limits: resource limits (`resource.RLIMIT_*`) and their values.
        stdout: where its results go.
        zygote: what to fork it from, instead of starting Python.
    """
    first = scene.prelude + prelude
    program = ["-c", f"{first}\n{_MAIN}"] if first else ["-m", "tiny_ablation"]
    own = {"OMP_NUM_THREADS": "1", "TINY_ABLATE_CACHE": str(place / "cache")}
    everything = {**os.environ, **own, **scene.env, **(env or {})}
    if zygote:
        return Forked(zygote, [*scene.args, *more], place, everything, first)
    return subprocess.Popen(
        [sys.executable, *program, *scene.args, *more],
        cwd=place,
        env=everything,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: _limit(limits or {}),
    )


def _limit(limits: Mapping[int, int]) -> None:
    """In the new process; and Ctrl-C works there, whoever started the tests in the background."""
    import resource

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for which, value in limits.items():
        resource.setrlimit(which, (value, value))


def finish(process: Process, limit: float = LIMIT) -> Done:
    """Wait for it; one that hangs is ended.

    Raises:
        Lost: it hangs.
    """
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        end(process)
        raise Lost(f"it hung for {limit} s") from error
    return Done(process.returncode, out or "", err)


def run(scene: Scene, place: Path, *more: str, **how: Any) -> Done:
    """The scene's command from beginning to end; arguments as for `start`."""
    return finish(start(scene, place, *more, **how))


def family(process: Process) -> list[psutil.Process]:
    """The process and all that it started."""
    try:
        first = psutil.Process(process.pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def workers(process: Process) -> list[psutil.Process]:
    """Its joblib workers, without their resource tracker."""
    return [p for p in family(process)[1:] if "popen_loky" in " ".join(_words(p))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def end(process: Process, which: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to the process and all that it started, and wait for them."""
    members = family(process)
    for member in members:
        try:
            member.send_signal(which)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(members, timeout=30)
    process.communicate(timeout=30)


def gone(members: list[psutil.Process], seconds: float = 30) -> None:
    """Wait until processes whose parent was killed have ended.

    Raises:
        Lost: one lives on, and would hold the directory of its run.
    """
    _, alive = psutil.wait_procs(members, timeout=seconds)
    alive = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    for left in alive:
        left.kill()
    if alive:
        raise Lost(f"processes live on: {alive}")


def wait_for(found: Callable[[], object], process: Process, seconds: float = 120) -> bool:
    """Whether something came to be while the process ran."""
    deadline = time.monotonic() + seconds
    while not found():
        if process.poll() is not None or time.monotonic() > deadline:
            return bool(found())
        time.sleep(0.02)
    return True


def same(expected: Mapping[str, bytes], found: Mapping[str, bytes]) -> None:
    """Two sets of files are equal to the byte.

    Raises:
        Lost: a file is missing.
        Wrong: a file differs, or there is one too many.
    """
    if missing := sorted(expected.keys() - found.keys()):
        raise Lost(f"missing: {missing[:5]}")
    if extra := sorted(found.keys() - expected.keys()):
        raise Wrong(f"too many: {extra[:5]}")
    if differ := [name for name in expected if expected[name] != found[name]]:
        raise Wrong(f"not the same bytes: {differ[:5]}; {_difference(expected[differ[0]], found[differ[0]])}")


def _difference(expected: bytes, found: bytes) -> str:
    """What stands around the first byte that differs."""
    at = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), 0)
    around = slice(max(0, at - 60), at + 60)
    return f"{expected[around]!r} became {found[around]!r}"
