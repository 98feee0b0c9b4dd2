"""What is fuzzed: each target makes input for one surface out of what is drawn."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import good, surfaces
from tests.fuzz.alter import HOSTILE, TOKENS, Draws, altered, dumped, one, spliced

Target = Callable[[Path, Draws], None]
_KEYS = (
    "model",
    "model.name",
    "model.path",
    "model.repo",
    "model.shape",
    "dataset",
    "dataset.family",
    "dataset.name",
    "dataset.path",
    "dataset.fields",
    "dataset.split",
    "dataset.n_examples",
    "dataset.common_rows",
    "ablation",
    "ablation.heads",
    "ablation.layers",
    "ablation.scales",
    "ablation.positions",
    "ablation.sets",
    "ablation.from_run",
    "device",
    "device.threads",
    "verify",
    "verify.mode",
    "metrics.names",
    "metrics.primary",
    "metrics.span",
    "stats.confidence",
    "stats.n_boot",
    "stats.confirm",
    "sae.path",
    "sae.width",
    "tracking.uri",
    "sweep.k",
    "sweep.hypotheses",
    "seed",
    "condition",
    "experiment",
    "notes.x",
    "notes",
    "hydra.run.dir",
    "hydra.sweep.subdir",
    "hydra.job.name",
    "hydra.searchpath",
    "hydra.launcher._target_",
    "hydra.callbacks.x",
    "hydra/launcher",
    "hydra",
    "resume",
    "",
    "_target_",
    "x.y.z",
)
_VALUES = (
    "",
    "null",
    "true",
    "toy",
    "facts",
    "ioi",
    "file",
    "jsonl",
    "heads_zero",
    "mlp_zero",
    "circuit",
    "sae_toggle",
    "full",
    "dev",
    "[]",
    "{}",
    "[0]",
    "[-1]",
    "[1,1]",
    "[a]",
    "{a:b}",
    "{clean:text}",
    "{s:[L0H1]}",
    "nan",
    "inf",
    "-1",
    "0",
    "1e99",
    "99999999999999999999",
    "'${seed}'",
    "${oc.env:HOME}",
    "${x}",
    "${",
    "../../up",
    "a b",
    "'a",
    '"',
    "\\",
    "glob(*)",
    "1,2",
    "range(3)",
    "\0",
    "é\u0301",
    "_target_",
    "{_target_:os.system}",
    "???",
)


def corpus(place: Path, draws: Draws) -> None:
    """Rows of JSON with hostile values, or text spliced into good ones; sometimes a sidecar, sometimes renamed fields."""
    rows = good.ROWS
    if draws.integer(0, 1):
        lines = [json.loads(line) for line in rows.splitlines()]
        for _ in range(draws.integer(1, 3)):
            row = one(draws, lines)
            row[one(draws, [*row, *["id", "group", "split", "targets", "foils", "template"], str(one(draws, HOSTILE))])] = one(
                draws, HOSTILE
            )
        rows = b"\n".join(map(dumped, lines))
    else:
        for _ in range(draws.integer(1, 4)):
            rows = spliced(draws, rows)
    sidecar = (
        None
        if draws.integer(0, 2)
        else one(draws, (dumped(one(draws, HOSTILE)), dumped({"content_hash": one(draws, HOSTILE), "by": "group"})))
    )
    fields = (
        {}
        if draws.integer(0, 2)
        else {one(draws, ("clean", "id", "nope")): one(draws, ("clean", "target", "theirs", "", None))}
    )
    surfaces.corpus(place, rows, sidecar, fields)


def table(place: Path, draws: Draws) -> None:
    """Rows of another format with something spliced in."""
    files = good.tables()
    name = one(draws, tuple(files))
    content = files[name]
    for _ in range(draws.integer(1, 3)):
        content = spliced(draws, content)
    state = {"saved/state.json": dumped({"_data_files": [{"filename": "data.arrow"}]})}
    surfaces.corpus(place, content, name=name, beside=state if "/" in name else None)


def overrides(place: Path, draws: Draws) -> None:
    """A few overrides of known and unknown keys."""
    given = []
    for _ in range(draws.integer(1, 3)):
        prefix = one(draws, ("", "", "+", "++", "~"))
        value = one(draws, _VALUES) if draws.integer(0, 3) else draws.some(12).decode(errors="surrogateescape")
        given.append(f"{prefix}{one(draws, _KEYS)}={value}")
    surfaces.overrides(place, given)


_OPTIONS = (
    b"defaults:\n  - override /ablation: mlp_zero\nnotes: {a: 1}\nseed: 3\n",
    b"dataset: {n_examples: 5, fields: {clean: text}}\nhydra: {job: {env_set: {OMP_NUM_THREADS: 1}}}\n",
    b"sweep:\n  hypotheses:\n    a: {test: effect_in_all, head: '0.1', sign: hurts}\n",
    b"hydra:\n  job_logging:\n    handlers: {h: {class: logging.StreamHandler}}\n  callbacks: {}\n",
)


def option_file(place: Path, draws: Draws) -> None:
    """An experiment file with something spliced in."""
    text = one(draws, _OPTIONS)
    for _ in range(draws.integer(1, 3)):
        text = spliced(draws, text)
    surfaces.option_file(place, text)


_MANIFESTS = ("manifest.json", "machine.json")


def run_directory(place: Path, draws: Draws) -> None:
    """A run with altered files whose checksums fit."""
    names = [name for name in surfaces.seeds("run") if name not in _MANIFESTS and name != "env.txt"]
    surfaces.run_directory(place, altered(draws, surfaces.seeds("run"), names))


def manifest(place: Path, draws: Draws) -> None:
    """A run with altered manifests."""
    surfaces.run_directory(place, altered(draws, surfaces.seeds("run"), _MANIFESTS), sealed=False)


def sweep_directory(place: Path, draws: Draws) -> None:
    """A sweep with altered files, most of them of its runs."""
    files = surfaces.seeds("sweep")
    mine = [name for name in files if name.startswith("artifacts") or "/" not in name]
    names = mine if draws.integer(0, 1) else [name for name in files if name not in mine]
    surfaces.sweep_directory(place, altered(draws, files, names), sealed=bool(draws.integer(0, 7)))


def model_directory(place: Path, draws: Draws) -> None:
    """A model with altered weights, config or tokenizer."""
    surfaces.model_directory(place, altered(draws, surfaces.seeds("model")))


def gguf(place: Path, draws: Draws) -> None:
    """A GGUF file with something spliced into its header or anywhere."""
    content = surfaces.seeds("gguf")["toy.gguf"]
    for _ in range(draws.integer(1, 3)):
        first = draws.integer(0, 2000 if draws.integer(0, 3) else len(content))
        number = one(draws, (0, 1, 2, 255, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)).to_bytes(8, "little")
        new = (number, draws.some(8), one(draws, TOKENS))[draws.integer(0, 2)]
        content = content[:first] + new + content[first + (len(new) if draws.integer(0, 7) else 0) :]
    surfaces.gguf(place, content)


def autoencoder(place: Path, draws: Draws) -> None:
    """An autoencoder with altered weights, config or record."""
    surfaces.autoencoder(place, altered(draws, surfaces.seeds("autoencoder")))


def batches(place: Path, draws: Draws) -> None:
    """Altered batches of an unfinished run."""
    surfaces.batches(place, altered(draws, surfaces.seeds("batches")))


# Shares of the time: what is rich in code of our own gets more.
TARGETS: dict[str, tuple[Target, int]] = {
    "corpus": (corpus, 3),
    "table": (table, 2),
    "overrides": (overrides, 2),
    "option_file": (option_file, 2),
    "run_directory": (run_directory, 4),
    "manifest": (manifest, 2),
    "sweep_directory": (sweep_directory, 4),
    "model_directory": (model_directory, 2),
    "gguf": (gguf, 2),
    "autoencoder": (autoencoder, 2),
    "batches": (batches, 1),
}
