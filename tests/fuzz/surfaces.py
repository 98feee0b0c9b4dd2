"""Where text and files of strangers come in, each as a function that may do nothing but work or refuse in words.

The contract, held by `told`: what leaves a surface is its result, or an error whose message is one printable line and whose exit
code is 2; nothing is written beside the place it was given. A hang and a memory blow-up are for the caller to notice: hypothesis
has a deadline, the fuzzer a time and a memory limit.
"""

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

from tests.ledgers import adopt
from tiny_ablation import cli
from tiny_ablation.config.schema import DatasetConfig, ModelConfig, ModelSource, Split
from tiny_ablation.store.manifest import write_manifest
from tiny_ablation.store.rundir import RunDir

Files = Mapping[str, bytes]
TOY = ("model=toy", "tracking=off", "device.threads=1")


@contextmanager
def told(place: Path) -> Iterator[None]:
    """Pass what is refused in words, and nothing else; see the module.

    Raises:
        AssertionError: a message that is none, an exit code that is not 2, or a file outside `place`.
    """
    before = _beside(place)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    except Exception as error:
        screen = io.StringIO()
        with redirect_stderr(screen):
            code = cli._tell(error, None)
        if code != 2:
            raise
        message = screen.getvalue().removeprefix("tiny-ablate: error: ").removesuffix("\n")
        assert message, "an error without words"
        assert message.isprintable(), f"not one printable line: {message!r}"
        assert len(message) < 20_000, f"a message of {len(message)} characters"
    assert _beside(place) == before, f"written outside: {_beside(place) ^ before}"


def _beside(place: Path) -> frozenset[str]:
    return frozenset(str(path) for path in place.parent.rglob("*") if place not in path.parents and path != place)


def put(place: Path, files: Files) -> Path:
    """An empty directory with these files."""
    shutil.rmtree(place, ignore_errors=True)
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    place.mkdir(parents=True, exist_ok=True)
    return place


def corpus(
    place: Path,
    rows: bytes,
    sidecar: bytes | None = None,
    fields: Mapping[str, str | None] | None = None,
    name: str = "rows.jsonl",
    beside: Files | None = None,
) -> None:
    """A corpus, with what stands beside it, as a run reads it and as `split` does."""
    from tiny_ablation.commands.split import _split
    from tiny_ablation.data.corpus import load_corpus, select
    from tiny_ablation.data.rows import read_examples

    put(place, {name: rows} | ({} if sidecar is None else {f"{name}.split.json": sidecar}) | dict(beside or {}))
    cfg = DatasetConfig(name="mine", family="file", path=str(place / Path(name).parts[0]), fields=dict(fields or {}))
    with told(place):
        found = load_corpus(cfg, 0)
        assert len(select(found, Split.all, None, 0)) == len(found.examples)
    for by in ("prompt", "group"):
        out = place / f"{by}.jsonl"
        with told(place):
            _split(cfg, out, by)
            again = load_corpus(DatasetConfig(name="mine", family="file", path=str(out), fields=cfg.fields), 0)
            assert len(again.examples) == len(read_examples(cfg))


def overrides(place: Path, given: list[str]) -> None:
    """Overrides as on the command line, composed and checked, up to the point where a model would be loaded."""
    from tiny_ablation.ablations.registry import run_spec
    from tiny_ablation.commands._compose import compose

    put(place, {})
    with told(place), _in(place):
        run_spec(compose([*TOY, *given]))


def option_file(place: Path, text: bytes) -> None:
    """An `experiment=` file of a stranger, found through a search path."""
    import hydra

    from tiny_ablation.ablations.registry import register_schemas
    from tiny_ablation.config import schema
    from tiny_ablation.config.settings import to_settings
    from tiny_ablation.paths import conf_dir

    put(place, {"experiment/theirs.yaml": b"# @package _global_\n" + text})
    schema.register()
    register_schemas()
    with told(place), hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        searched = f"hydra.searchpath=[file://{place}]"
        to_settings(hydra.compose("config", [*TOY, searched, "+experiment=theirs"]))


def run_directory(place: Path, files: Files, *, sealed: bool = True, figures: bool = False) -> None:
    """A run directory, as `load_run`, `report` and `findings` read it.

    Args:
        place: where to.
        files: its content.
        sealed: give every file its right checksum first, as whoever altered it could.
        figures: draw the figures too, which takes seconds.
    """
    from tiny_ablation.report.findings import findings_page
    from tiny_ablation.report.rebuild import rebuild
    from tiny_ablation.report.run_page import write_run_report
    from tiny_ablation.store.reader import load_run
    from tiny_ablation.store.untrusted import reading

    put(place, files)
    if sealed:
        _seal(place)
    run = None
    with told(place):
        run = load_run(place)
    for part in ("impact", "per_example", "summary", "config", "provenance", "verify", "_repr_html_") if run else ():
        with told(place):
            found = getattr(run, part)
            if callable(found):
                found()
    with told(place):
        findings_page([place], "tiny-ablate findings")
    with told(place), reading(place):  # as `rebuild` does
        (rebuild if figures else write_run_report)(place)


def sweep_directory(place: Path, files: Files, *, sealed: bool = True, figures: bool = False) -> None:
    """A sweep's directory, as `status`, `aggregate`, `report` and `load_sweep` read it; arguments as for `run_directory`."""
    from tiny_ablation.report.rebuild import rebuild
    from tiny_ablation.store.sweep_reader import load_sweep
    from tiny_ablation.sweep.analysis import aggregate_sweep, sweep_invariants
    from tiny_ablation.sweep.state import sweep_status

    put(place, files)
    if sealed:
        for manifest in sorted(place.rglob("*/manifest.json")):
            _seal(manifest.parent)
        _seal(place)
    with told(place):
        sweep_status(place)
    sweep = None
    with told(place):
        sweep = load_sweep(place)
    parts = ("summary", "invariants", "hypotheses", "geometry", "matrix", "means", "_repr_html_", "runs")
    for part in parts if sweep else ():
        with told(place):
            found = getattr(sweep, part)
            if callable(found):
                list(found())
    with told(place):
        sweep_invariants(place, lambda cfg: cfg)
    with told(place):
        (rebuild if figures else aggregate_sweep)(place)


def _seal(directory: Path) -> None:
    """Checksums that fit; a manifest that says nothing stays as it is."""
    try:
        content = json.loads((directory / "manifest.json").read_bytes())
        adopt(directory)
        known = {key: content[key] for key in ("run_id", "status", "digest", "covers", "error")}
        write_manifest(
            RunDir(directory), **known, extra={k: v for k, v in content.items() if k in ("kind", "condition", "seed")}
        )
    except Exception:  # the manifest itself is what was altered
        return


def model_directory(place: Path, files: Files) -> None:
    """A Hugging Face directory: identified, checked and loaded."""
    from tiny_ablation.models import loader

    put(place, files)
    cfg = ModelConfig(name="mine", source=ModelSource.local, path=str(place))
    with told(place):
        loader.weights_id(cfg)
        loader.load_model(cfg, device="cpu", dtype="float32")
    loader.forget()


def gguf(place: Path, content: bytes) -> None:
    """A GGUF file: converted into the cache, which is in `place`."""
    from tiny_ablation.models import loader

    put(place, {"theirs.gguf": content})
    cfg = ModelConfig(name="mine", source=ModelSource.local, path=str(place / "theirs.gguf"))
    with told(place), _environment("TINY_ABLATE_CACHE", str(place / "cache")):
        loader.prepare(cfg)


def autoencoder(place: Path, files: Files) -> None:
    """A directory in SAELens' format."""
    from tiny_ablation.sae.loading import read
    from tiny_ablation.sae.trained import is_whole

    put(place, files)
    with told(place):
        read(place, "cpu")
    with told(place):
        is_whole(place)


def batches(place: Path, files: Files) -> None:
    """Finished batches of a run that is under way; those that cannot be used are dropped."""
    from tiny_ablation.config.identity import Identity
    from tiny_ablation.store.partial import PartialStore

    put(place, {f"batch_{i:05d}.safetensors": content for i, content in enumerate(files.values())})
    store = PartialStore(place, Identity("digest", {}))
    with told(place):
        for batch in store.done():
            store.load(batch)


@contextmanager
def _in(place: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def read_all(directory: Path, leave_out: tuple[str, ...] = ("artifacts", "report.html")) -> dict[str, bytes]:
    """Every file under a directory that is not drawn."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not set(path.relative_to(directory).parts) & {*leave_out, ".lock"}
    }


@cache
def seeds(kind: str) -> dict[str, bytes]:
    """Good files to begin with; made once a process.

    Args:
        kind: `run`, `sweep`, `model`, `gguf`, `autoencoder` or `batches`.
    """
    from tests.fuzz import good

    return getattr(good, kind)()


def warm() -> None:
    """Import what the surfaces import inside, so that a fuzzer can instrument it and its first inputs are not slow."""
    import importlib
    import pkgutil

    import tiny_ablation

    for module in pkgutil.walk_packages(tiny_ablation.__path__, "tiny_ablation."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
