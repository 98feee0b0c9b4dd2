"""What a tracker is told about a finished run: config, numbers and files, in a tracker's flat terms."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tiny_ablation.store.files import read_json
from tiny_ablation.store.manifest import Manifest
from tiny_ablation.store.reader import Run, load_run
from tiny_ablation.store.sweepdir import SweepDir

# Larger files (per-example tables of big sweeps) stay where they are; the tag `run_dir` says where.
_LARGEST_FILE = 20_000_000
# The address of a tracking server may hold a password.
_PRIVATE = ("tracking.",)


@dataclass(frozen=True)
class Record:
    """One finished run.

    Args:
        name: the run's id.
        status: `ok`, `partial` or `failed`.
        started_ms: when it began, in milliseconds since 1970.
        ended_ms: when it ended, likewise; the time of every metric, so that publishing twice gives the same
            points.
        params: the resolved config, keys joined by dots.
        metrics: every number of the summary that is not in a list, keys joined by dots.
        tags: the digest, the place and the code of the run.
        files: paths relative to the run directory.
    """

    name: str
    status: str
    started_ms: int
    ended_ms: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: tuple[str, ...]


def read_record(run_dir: Path) -> Record:
    """The record of the run in `run_dir`.

    Raises:
        ResultsError: a file is missing, damaged or altered.
    """
    run = load_run(run_dir)
    provenance = read_json(run.dir.provenance) if run.dir.provenance.is_file() else {}
    return Record(
        name=run.manifest.run_id,
        status=run.manifest.status,
        started_ms=_milliseconds(provenance.get("started"), run),
        ended_ms=_milliseconds(provenance.get("ended"), run),
        params=dict(_params(run.config)) if run.dir.config.is_file() else {},
        metrics=dict(_numbers(read_json(summary))) if (summary := _summary(run)) else {},
        tags=_tags(run_dir, run.manifest, provenance),
        files=tuple(_small_files(run.manifest)),
    )


def _summary(run: Run) -> Path | None:
    """The summary of a run or of a sweep, where there is one."""
    places = (run.dir.summary, SweepDir(run.dir.path).summary)
    return next((place for place in places if place.is_file()), None)


def _milliseconds(moment: str | None, run: Run) -> int:
    """A time of the provenance; when it has none, the time of the manifest."""
    seconds = datetime.fromisoformat(moment).timestamp() if moment else run.dir.manifest.stat().st_mtime
    return int(seconds * 1000)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is not a mapping, with its keys joined by dots."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _params(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in _leaves(config):
        if not key.startswith(_PRIVATE):
            yield key, value if isinstance(value, str) else json.dumps(value)


def _numbers(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in _leaves(summary):
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Trackers take few characters in a metric's name.
            yield re.sub(r"[^\w\-. /]", "_", key, flags=re.ASCII), float(value)


def _tags(run_dir: Path, manifest: Manifest, provenance: Mapping[str, Any]) -> dict[str, str]:
    place = str(run_dir.resolve())
    commit = provenance.get("git_commit") or "none"
    return {
        "tiny_ablate.digest": manifest.digest,
        "tiny_ablate.run_id": manifest.run_id,
        "tiny_ablate.run_dir": place,
        # The place again in a form that is safe in a query, whatever characters the path has.
        "tiny_ablate.place": hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16],
        "tiny_ablate.git": f"{commit}-dirty" if provenance.get("git_dirty") else commit,
    }


def _small_files(manifest: Manifest) -> Iterator[str]:
    yield "manifest.json"
    yield from (name for name in manifest.machine_files if name == "provenance.json")
    for name, entry in manifest.files.items():
        if entry.size <= _LARGEST_FILE:
            yield name
