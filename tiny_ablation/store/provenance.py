"""Where a run's numbers come from: hashes, code, versions, machine and times.

Host and user names are left out, so that a run directory can be given away.
"""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tiny_ablation.config.identity import NUMERIC_PACKAGES
from tiny_ablation.paths import conf_dir

KEY_PACKAGES = (
    *("tiny-ablation", "torch", "transformer-lens", "transformers", "sae-lens", "numpy", "scipy", "pandas", "pyarrow"),
    *("safetensors", "gguf", "hydra-core", "omegaconf", "mlflow", "matplotlib", "plotly"),
)

_PACKAGE = Path(__file__).resolve().parent.parent


class Commit(NamedTuple):
    """The checkout that the running code stands in."""

    sha: str
    dirty: bool  # the package or its configs differ from the commit


def collect(
    *,
    hashes: Mapping[str, str | None],
    device: str,
    started: datetime,
    ended: datetime,
    threads: int | None = None,
    argv: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The content of `provenance.json`; about 50 ms, and imports nothing heavy.

    `hashes` are those of the `config`, `data`, `split` and `weights`, `device` says in words what computed ("cuda:0 NVIDIA
    A100"), and the times have a time zone. Without `argv` it is this process's command line.
    """
    commit, command = git_commit(), sys.argv if argv is None else argv
    return {
        **{f"{name}_hash": value for name, value in hashes.items()},
        "git_commit": commit.sha if commit else None,
        "git_dirty": commit.dirty if commit else None,
        "versions": versions(KEY_PACKAGES),
        "python": platform.python_version(),
        "machine": {**machine(), "device": device, "threads": threads},
        "argv": [Path(command[0]).name.replace("__main__.py", "tiny-ablate"), *command[1:]] if command else [],
        "started": _utc(started),
        "ended": _utc(ended),
        "seconds": round((ended - started).total_seconds(), 3),
    }


def git_commit() -> Commit | None:
    """The commit of the checkout that this package runs from; None when it is installed, not checked out."""
    # A virtual environment may lie inside another project's repository: only a tracked file proves a
    # checkout.
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    sha, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", ".", str(conf_dir()))
    return None if sha is None or changes is None else Commit(sha, bool(changes))


def versions(names: Sequence[str]) -> dict[str, str | None]:
    """The installed version of each distribution, None where it is not installed; nothing is imported."""
    installed = _installed(_places())
    return {name: installed.get(_normal(name)) for name in names}


@cache
def numeric_versions() -> dict[str, str | None]:
    """The versions of `NUMERIC_PACKAGES`, as they were when this process first asked: what it imports, it imports once."""
    return {name: _version(name) for name in NUMERIC_PACKAGES}


def env_txt() -> str:
    """Every installed distribution as `name==version`, sorted, one a line, as `pip freeze` does."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(_installed(_places()).items()))


def machine() -> dict[str, Any]:
    """What this machine is: system, processor, cores (physical and logical) and memory in bytes."""
    import psutil

    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _places() -> tuple[tuple[str, int], ...]:
    """Where distributions are looked for, and when each place changed last: it does where one is installed or removed."""
    return tuple((place, Path(place).stat().st_mtime_ns) for place in sys.path if place and Path(place).exists())


@cache
def _installed(_places: tuple[tuple[str, int], ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # a broken leftover of an uninstalled package has none
            found.setdefault(_normal(name), distribution.version)  # the first on sys.path is the one imported
    return found


def _normal(name: str) -> str:
    """A distribution's name in the one spelling that all its spellings share."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _git(*arguments: str) -> str | None:
    """What git says in the package's directory; None when it fails or is not there."""
    # Within a git hook these variables would point at another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(_PACKAGE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
