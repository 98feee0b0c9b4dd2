"""The golden file: fingerprints of the golden runs and the result version that they were made with."""

import contextlib
import csv
import io
from pathlib import Path

from tests.golden.fingerprint import Column, fingerprint
from tests.golden.runs import COMMON, DEFAULT_MODEL, RUNS, corpus
from tiny_ablation.cli import main

PATH = Path(__file__).with_name("golden.csv")
Fingerprints = dict[tuple[str, str], Column]


def make(names: list[str], directory: Path) -> dict[str, Fingerprints]:
    """Carry out the golden runs of these names below `directory`, and describe their results.

    Raises:
        RuntimeError: a run ends with an error.
    """
    (directory / "corpus.txt").write_text(corpus())
    given = {"{ranking}": directory / "heads_zero", "{corpus}": directory / "corpus.txt"}
    out = {}
    for name in dict.fromkeys(["heads_zero", *names]):  # rankings are read from it
        overrides = list((RUNS | DEFAULT_MODEL)[name])
        for key, path in given.items():
            overrides = [text.replace(key, str(path)) for text in overrides]
        where = "hydra.sweep.dir" if "-m" in overrides else "hydra.run.dir"
        screen = io.StringIO()
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
            code = main([*overrides, *COMMON, f"{where}={directory / name}"])
        if code:
            raise RuntimeError(f"golden run {name} ended with exit code {code}:\n{screen.getvalue()[-2000:]}")
        out[name] = fingerprint(directory / name)
    return out


def read() -> tuple[int, dict[str, Fingerprints]]:
    """The result version and the fingerprints on file."""
    with PATH.open(newline="") as file:
        version, *rows = csv.reader(file)
    out: dict[str, Fingerprints] = {}
    for run, table, column, size, missing, rms, weighted, kind, sha in rows:
        described = Column(int(size), int(missing), float(rms), float(weighted), kind, sha)
        out.setdefault(run, {})[table, column] = described
    return int(version[1]), out


def write(version: int, runs: dict[str, Fingerprints]) -> None:
    """Replace the golden file."""
    with PATH.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["result_version", version])
        for run in sorted(runs):
            for (table, column), c in sorted(runs[run].items()):
                writer.writerow([run, table, column, c.size, c.missing, f"{c.rms:.6g}", f"{c.weighted:.6g}", c.kind, c.sha])
