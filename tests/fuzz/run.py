"""Coverage-guided fuzzing of every target with Atheris, one process at a time.

    python -m tests.fuzz.run --seconds 3600 --out DIR            all targets, by their shares
    python -m tests.fuzz.run --target corpus --seconds 60 --out DIR

Time is what passes while inputs are tried; a process that is suspended does not count on. An exception is a finding: its input and traceback
are kept once for each place that it comes from, and fuzzing goes on; a hang, a crash of the interpreter or too much memory ends
the process, and the target is begun anew with the rest of its time. Inputs that reach new code stay in DIR/corpus for the next
time. Exit code 1 where something was found.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HANG = 300  # seconds for one input, on a machine with other work; a suspended process counts on
MEMORY = 4096  # MB
AWAY = 10  # seconds between two inputs that count at most: beyond, the process was suspended
_ALONE = "--alone"


class _Provided:
    """Draws from the fuzzer's bytes."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    def integer(self, low: int, high: int) -> int:
        return self._provider.ConsumeIntInRange(low, high)

    def some(self, most: int) -> bytes:
        return self._provider.ConsumeBytes(self._provider.ConsumeIntInRange(0, most))


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--seconds", type=float, default=3600)
    flags.add_argument("--out", type=Path, default=Path("fuzz"))
    flags.add_argument("--target", help="one of tests/fuzz/targets.py")
    flags.add_argument(_ALONE, action="store_true", help=argparse.SUPPRESS)
    given = flags.parse_args()
    if given.alone:
        return _fuzz(given.target, given.seconds, given.out)
    from tests.fuzz.targets import TARGETS

    names = [given.target] if given.target else list(TARGETS)
    total = sum(TARGETS[name][1] for name in names)
    for name in names:
        _target(name, given.seconds * TARGETS[name][1] / total, given.out.resolve())
    found = sorted((given.out / "findings").glob("*/*"))
    found = [path for path in found if path.suffix != ".txt" and not path.name.startswith("slow-unit")]
    print(*(f"finding: {path}" for path in found), sep="\n")
    return int(bool(found))


def _target(name: str, seconds: float, out: Path) -> None:
    """Fuzz one target for so long, in as many processes as it takes."""
    stats = out / "stats" / f"{name}.json"
    while (left := seconds - _spent(stats)) > 1:
        before = _spent(stats)
        command = [sys.executable, "-m", "tests.fuzz.run", _ALONE, "--target", name, "--seconds", str(left), "--out", str(out)]
        code = subprocess.run(command, check=False).returncode
        if code and _spent(stats) <= before:  # it did not even begin
            raise SystemExit(f"fuzzing {name} ends with {code} at once")
        print(f"{name}: {json.loads(stats.read_text())}", flush=True)


def _spent(stats: Path) -> float:
    return json.loads(stats.read_text())["seconds"] if stats.is_file() else 0.0


def _fuzz(name: str, seconds: float, out: Path) -> int:
    """In this process, until the time is up; does not return where the fuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["tiny_ablation", "gguf"]):
        from tests.fuzz import surfaces
        from tests.fuzz.alter import Least
        from tests.fuzz.targets import TARGETS

        surfaces.warm()
    target = TARGETS[name][0]
    corpus, findings, stats = out / "corpus" / name, out / "findings" / name, out / "stats" / f"{name}.json"
    for directory in (corpus, findings, stats.parent):
        directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    target(scratch / "place", Least())  # makes the good files, which takes longer than an input may
    clock = _Clock(stats, seconds)

    def once(data: bytes) -> None:
        try:
            target(scratch / "place", _Provided(atheris.FuzzedDataProvider(data)))
        except Exception as error:
            _keep(findings, data, error)
        clock.tick()

    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-artifact_prefix={findings}/",
            f"-timeout={HANG}",
            f"-rss_limit_mb={MEMORY}",
            "-max_len=512",
            "-len_control=0",
            "-print_final_stats=0",
            "-verbosity=0",
            "-close_fd_mask=0",
        ],
        once,
    )
    atheris.Fuzz()
    return 0


class _Clock:
    """Counts inputs and time over all processes of a target, and ends the process when its time is up."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._seconds = path, seconds
        self._before = json.loads(path.read_text()) if path.is_file() else {"inputs": 0, "seconds": 0.0}
        self._inputs, self._spent, self._written, self._last = 0, 0.0, 0.0, time.monotonic()

    def tick(self) -> None:
        self._inputs += 1
        now = time.monotonic()
        self._spent += min(now - self._last, AWAY)
        self._last = now
        done = self._spent >= self._seconds
        if done or self._spent - self._written > 5:
            self._written = self._spent
            total = {
                "inputs": self._before["inputs"] + self._inputs,
                "seconds": round(self._before["seconds"] + self._spent, 1),
            }
            self._path.write_text(json.dumps(total))
        if done:
            os._exit(0)


def _keep(findings: Path, data: bytes, error: Exception) -> None:
    """One input for each place that an exception comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "tiny_ablation" in frame.filename] or frames
    place = f"{type(error).__name__} {Path(own[-1].filename).name}:{own[-1].lineno}"
    name = hashlib.sha256(place.encode()).hexdigest()[:12]
    if not (findings / name).exists():
        (findings / name).write_bytes(data)
        text = "".join(traceback.format_exception(error))
        (findings / f"{name}.txt").write_text(f"{place}\n{text}", errors="backslashreplace")
        print(f"new finding: {place}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
