"""The manifest: what a run is, how it ended, and the checksum of every file that says so; its own is its last key.

Equal runs have equal manifests, to the byte. So files that hold times or machine facts are named in
`manifest.json` and their checksums stand in `machine.json` beside it. Listed is what the run itself wrote, by its
ledger, and of that only what is a result: no finished batches of a run that is under way.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from tiny_ablation.errors import ResultsError
from tiny_ablation.paths import inside
from tiny_ablation.store.checksummed_json import read_versioned, write_sealed
from tiny_ablation.store.ledger import keeping, read_ledger, sha256_file
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import SCHEMA_VERSION

Status = Literal["ok", "partial", "failed"]

_MANIFESTS = ("manifest.json", "machine.json")
_MACHINE_FILES = {
    "provenance.json",
    "env.txt",
    "metrics/profile.json",
    "metrics/verify.json",
    "multirun.yaml",
    "sweep.json",  # it may hold the command line and paths
    "report.html",  # it lists the provenance
    "sae/training_profile.json",
    *(f"artifacts/{name}.{suffix}" for name in ("timeline", "verify") for suffix in ("html", "png", "pdf", "svg")),
}
DRAWN = ("artifacts/", "report.html")  # what `tiny-ablate report` makes anew from the other files
_UNDER_WAY = "partial/"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileEntry(NamedTuple):
    """One file as it was when the manifest was written."""

    sha256: str
    size: int  # bytes


class Problem(NamedTuple):
    """One file that is not as the manifest says."""

    file: str  # relative to the run directory
    what: Literal["missing", "altered"]

    def __str__(self) -> str:
        return f"{self.file} is {self.what}"


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`."""

    run_id: str  # the short name of the run, from its digest
    status: Status  # `ok`; `partial`, when it was stopped and what was finished is kept; `failed`
    digest: str  # what identifies the run
    covers: Mapping[str, Any]  # what the digest was made of
    files: Mapping[str, FileEntry]  # the files that define the result, by path relative to the run directory
    machine_files: tuple[str, ...] = ()  # the names of the files with times and machine facts
    error: str | None = None  # why the run failed or stopped
    extra: Mapping[str, Any] = field(default_factory=dict)  # further keys of the file

    @property
    def undone(self) -> str | None:
        """Which stages behind the measurement failed, and why; None where all went well."""
        failed = self.extra.get("stages") or {}
        return "; ".join(f"{stage} failed: {why}" for stage, why in failed.items()) or None


def write_manifest(
    rundir: RunDir,
    *,
    run_id: str,
    status: Status,
    digest: str,
    covers: Mapping[str, Any],
    error: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write `machine.json` and then `manifest.json` of a run or sweep; call it last, once every other file is written.

    Listed is every file of the directory's ledger that is there as it was written. `covers` and `extra`, further keys of the
    manifest, hold no times and no machine facts.
    """
    content = {"schema_version": SCHEMA_VERSION, "run_id": run_id, "status": status, "error": error}
    content |= {"digest": digest, "covers": covers, **(extra or {})}
    with keeping(rundir.path) as ledger:
        found = {
            name: {"sha256": sha256, "size": (rundir.path / name).stat().st_size}
            for name, sha256 in ledger.files().items()
            if name not in _MANIFESTS and not name.startswith(_UNDER_WAY)
        }
        machine_files = {name: entry for name, entry in found.items() if name in _MACHINE_FILES}
        files = {name: entry for name, entry in found.items() if name not in machine_files}
        machine = {"schema_version": SCHEMA_VERSION, "run_id": run_id, "files": machine_files}
        write_sealed(rundir.machine, machine)
        return write_sealed(rundir.manifest, content | {"files": files, "machine_files": list(machine_files)})


def read_manifest(path: Path) -> Manifest:
    """The manifest of a run directory, or of its `manifest.json`.

    Raises:
        ResultsError: it is missing, damaged, from a newer version, or names files outside its directory.
    """
    path = path / "manifest.json" if path.is_dir() else path
    if not path.is_file():
        raise ResultsError(f"{path} is missing: this is no run directory, or its run was killed. Run it again.")
    content = read_versioned(path)
    try:
        return _parse(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error


def check_files(rundir: RunDir, only: Collection[str] | None = None) -> list[Problem]:
    """The files of a run that are missing or not as its manifest says; an empty list is good news.

    Figures and page may be newer than the manifest, by the ledger: after a `report` that was killed the run can be read. With
    `only`, just these names are looked at, and one that no manifest lists counts as missing.
    """
    manifest = read_manifest(rundir.path)
    names = [*manifest.files, *manifest.machine_files, rundir.machine.name] if only is None else list(only)
    expected = entries(rundir)
    listed = {*expected, rundir.machine.name, *manifest.machine_files}
    problems = {name: Problem(name, "missing") for name in names if name not in listed or not (rundir.path / name).is_file()}
    expected = {name: entry for name, entry in expected.items() if only is None or name in only}
    ledger = read_ledger(rundir.path)
    for name in sorted(expected.keys() - problems.keys()):
        path = rundir.path / name
        newer = ledger if name.startswith(DRAWN) else None
        if path.is_file() and not (newer and newer.owns(path)):
            entry = expected[name]
            if path.stat().st_size != entry.size or sha256_file(path) != entry.sha256:
                problems[name] = Problem(name, "altered")
    return [problems[name] for name in sorted(problems)]


def entries(rundir: RunDir) -> dict[str, FileEntry]:
    """What the manifest of a run, and the list of its machine files, say of every file; raises as `read_manifest`."""
    found = dict(read_manifest(rundir.path).files)
    if rundir.machine.is_file():
        content = read_versioned(rundir.machine)
        try:
            found |= _parse_entries(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(rundir.machine, error) from error
    return found


def _parse(content: Mapping[str, Any]) -> Manifest:
    known = {key: content[key] for key in ("run_id", "status", "digest", "covers", "error")}
    if known["status"] not in get_args(Status):
        raise ValueError(f"status {known['status']!r}")
    files = _parse_entries(content)
    machine_files = tuple(inside(name) for name in content["machine_files"])
    taken = {*known, "schema_version", "files", "machine_files"}
    extra = {key: value for key, value in content.items() if key not in taken}
    return Manifest(**known, files=files, machine_files=machine_files, extra=extra)


def _parse_entries(content: Mapping[str, Any]) -> dict[str, FileEntry]:
    found = {}
    for name, entry in content["files"].items():
        inside(name)
        if not _SHA256.fullmatch(entry["sha256"]) or not isinstance(entry["size"], int):
            raise ValueError(f"the entry of {name}")
        found[name] = FileEntry(entry["sha256"], entry["size"])
    return found


def _damaged(path: Path, why: object) -> ResultsError:
    return ResultsError(f"{path} is damaged ({why}). Run again to make it anew.")
