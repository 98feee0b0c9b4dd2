"""Autoencoders that were trained here: one directory each in the user's cache, made once and shared by all runs.

    <cache>/sae/<name>/          SAELens' format (cfg.json, sae_weights.safetensors, sparsity.safetensors), and
                                 `trained.json`: recipe, losses, quality; `held_out.safetensors`: the tokens that quality
                                 was measured on; `training_profile.json`: time and memory
    <cache>/sae/<name>.work/     contexts, activations and the last checkpoint of a training that is not finished
    <cache>/sae/<name>.lock      held by the process that trains; others wait for it

A killed training goes on from its last checkpoint when the same autoencoder is asked for again, from whichever run.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from tiny_ablation import __version__
from tiny_ablation.config.identity import hash_json
from tiny_ablation.config.schema import SaeConfig
from tiny_ablation.errors import Interrupted, ModelError, ResultsError
from tiny_ablation.models.sources.progress import byte_bar, notice, spinner
from tiny_ablation.models.sources.store import making
from tiny_ablation.paths import cache_dir
from tiny_ablation.sae.buffer import fill_buffer
from tiny_ablation.sae.contexts import Contexts, contexts, own_samples
from tiny_ablation.sae.corpus import content_id
from tiny_ablation.sae.site import Site, resolve_site
from tiny_ablation.store.cache_entries import LEFT, MARK, Entry, mark
from tiny_ablation.store.checksummed_json import read_sealed, write_sealed
from tiny_ablation.store.files import flush_files, read_json, sha256_file, write_json, write_via
from tiny_ablation.store.locks import hold
from tiny_ablation.store.profile import peak_memory
from tiny_ablation.store.provenance import numeric_versions

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network

RECORD, MACHINE, HELD_OUT = "trained.json", "training_profile.json", "held_out.safetensors"
_WORK = ".work"
BATCH_TOKENS = 2048  # in one forward pass that computes activations
VERSION = 2  # raise it when the same recipe gives another autoencoder
_RECIPE = ("architecture", "k", "sparsity", "tokens", "own_samples", "context", "held_out", "steps", "batch", "lr")


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a trained autoencoder, and where to put it."""

    network: "Network"
    cfg: SaeConfig
    seed: int
    site: Site
    width: int  # number of features

    @property
    def covers(self) -> dict[str, Any]:
        """What identifies the result."""
        cfg = asdict(self.cfg)
        kept = {name: getattr(cfg[name], "value", cfg[name]) for name in _RECIPE}
        model = self.network.model
        return {
            "version": VERSION,
            "code_version": __version__,
            "model": model.name,
            "weights": model.weights_hash,
            "processing": model.origin.get("weights", "raw"),
            "opening": list(model.opening),
            "component": self.site.component,
            "layer": self.site.layer,
            "width": self.width,
            "text": content_id(self.cfg.corpus),
            "seed": self.seed,
            "libraries": numeric_versions(),
            **kept,
        }

    @property
    def directory(self) -> Path:
        """Where it is, or will be."""
        name = f"{self.network.model.name}-L{self.site.layer}-{self.site.component}-{self.width}"
        return cache_dir() / "sae" / f"{name}-{hash_json(self.covers)[:12]}"


def recipe(network: "Network", cfg: SaeConfig, seed: int) -> Recipe:
    """What `cfg` means for this model. Raises ConfigError if the model has no such layer."""
    site = resolve_site(cfg.component, cfg.layer, network.shape)
    width = cfg.width or 2 * site.width(network.shape)
    return Recipe(network, cfg, seed, site, width)


def trained(recipe: Recipe, *, anew: bool = False) -> Path:
    """The directory of the trained autoencoder; trains it if it is not there.

    Args:
        recipe: what to train.
        anew: train it even if it is there, and from the start.

    Raises:
        ModelError: the cache cannot be written.
        Interrupted: stopped by Ctrl-C; what was computed is kept.
    """
    target = recipe.directory
    work = target.with_name(f"{target.name}{_WORK}")
    if not anew and is_whole(target) and not work.exists():
        return hold(target)
    try:
        with making(_lock(target), f"training {target.name}", "the autoencoder"):
            if anew:
                shutil.rmtree(target, ignore_errors=True)
                shutil.rmtree(work, ignore_errors=True)
            if not is_whole(target):
                work.mkdir(exist_ok=True)
                mark(work)
                _make(recipe, target, work)
            shutil.rmtree(work, ignore_errors=True)  # also where a process was killed at its very end
    except KeyboardInterrupt:
        raise Interrupted("interrupted while training; the same command goes on from the last checkpoint") from None
    return hold(target)


def is_whole(directory: Path) -> bool:
    """Whether a finished autoencoder stands there, as it was written."""
    try:
        files = read_sealed(directory / RECORD, required=False)["files"]
        return all(Path(name).name == name and sha256_file(directory / name) == hash_ for name, hash_ in files.items())
    except (ResultsError, KeyError, AttributeError, TypeError, ValueError):
        if (directory / RECORD).is_file():
            notice(f"{directory} is damaged; training it again.")
        return False


def entries() -> Iterator[Entry]:
    """What is in the cache, finished or not."""
    for path in sorted((cache_dir() / "sae").glob("*")):
        name, left, _ = path.name.lstrip(".").partition(LEFT)
        target = path.with_name(name.removesuffix(_WORK))
        kind = "left behind" if left else "unfinished training" if path.suffix == _WORK else "autoencoder"
        if (entry := Entry(kind, path, _lock(target), RECORD, (MACHINE,))).is_ours:
            yield entry


def _lock(target: Path) -> Path:
    return target.with_name(f"{target.name}.lock")


def _make(recipe: Recipe, target: Path, work: Path) -> None:
    """Text, activations, training, quality; then everything appears under its name at once."""
    import torch
    from safetensors.numpy import save_file as save_arrays
    from safetensors.torch import save_file

    from tiny_ablation.sae.loading import read
    from tiny_ablation.sae.quality import quality

    network, times = recipe.network, work / "clock.json"
    notice(
        f"Training a sparse autoencoder at {recipe.site.hook_name} of {network.model.name} "
        f"({recipe.width} features); it is kept in {target.parent} and made once."
    )
    with _timed(times, "text"):
        found = _contexts(recipe, work)
    with _timed(times, "activations"), byte_bar("activations", len(found.train) * (found.train.shape[1] - 1)) as tick:
        place = work / "activations.f32"
        buffer = fill_buffer(network, recipe.site, found.train, place, batch_tokens=BATCH_TOKENS, tick=tick)
    with _timed(times, "training"):
        sae, curve = _train(recipe, buffer, work)
    part = work / "finished"
    shutil.rmtree(part, ignore_errors=True)
    sae.save_inference_model(part)
    config = part / "cfg.json"  # whose keys SAELens leaves in an order that changes from process to process
    write_json(config, dict(sorted(read_json(config).items())))
    save_arrays({"contexts": found.held_out}, part / HELD_OUT)  # to look at features, or to measure again
    with _timed(times, "quality"), byte_bar("quality", 2 * len(found.held_out)) as tick:
        # Of what was written, read back as SAELens reads it.
        measured = quality(network, read(part, network.device), found.held_out, tick)
        save_file({"sparsity": torch.log10(measured.frequency.float() + 1e-10)}, part / "sparsity.safetensors")
    files = {path.name: sha256_file(path) for path in sorted(part.iterdir())}
    write_json(part / MACHINE, {"stages_s": _stages(times), "peak_rss_bytes": peak_memory()})
    # The record goes last: a directory with one is whole.
    write_sealed(part / RECORD, {"recipe": recipe.covers, "quality": measured.numbers, "curve": curve, "files": files})
    flush_files(part)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(part, target)


@contextlib.contextmanager
def _timed(path: Path, stage: str) -> Iterator[None]:
    """Add the seconds of a stage to those in the file, which are summed over all processes that worked at the training."""
    stages, started = _stages(path), time.perf_counter()  # read before: what happens within may damage or remove the file
    try:
        yield
    finally:
        stages[stage] = round(stages.get(stage, 0.0) + time.perf_counter() - started, 1)
        with contextlib.suppress(ResultsError):  # on a full disk, what happens within tells better
            write_sealed(path, stages)


def _stages(path: Path) -> dict[str, float]:
    """Seconds of each stage so far; nothing if the file is damaged, since no result depends on it."""
    try:
        return read_sealed(path)
    except ResultsError:
        return {}


def _contexts(recipe: Recipe, work: Path) -> Contexts:
    """Drawn once; a training that goes on sees the same text whatever the machine's threads do to sampling."""
    import numpy as np

    path, record = work / "contexts.npz", work / "contexts.json"
    try:
        known = read_sealed(record)["sha256"] == sha256_file(path)
    except ResultsError:
        known = False
    if not known:
        if record.exists():  # a text without its record is not damaged but was just being written
            notice(f"{work} is damaged; training begins anew.")
        for old in (each for each in work.iterdir() if each.name != MARK):  # what follows from another text is of no use
            shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink()
        cfg = recipe.cfg
        with spinner("text"):
            found = contexts(recipe.network, cfg, recipe.seed)
        with spinner("the model's own samples"):
            own = own_samples(recipe.network, found.train[:, -1], cfg.own_samples, cfg.context, recipe.seed)
        train = np.concatenate([found.train, own])
        write_via(path, lambda part: np.savez(part, train=train, held_out=found.held_out))
        write_sealed(record, {"sha256": sha256_file(path)})
    try:
        with np.load(path, allow_pickle=False) as file:
            return Contexts(file["train"], file["held_out"])
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelError(f"sae: {path} is damaged; delete {work} to train from the start") from error


def _train(recipe: Recipe, buffer: Any, work: Path) -> tuple[Any, list[dict[str, float]]]:
    from tiny_ablation.sae.training import train

    model, device = recipe.network.model, recipe.network.device
    metadata = {
        "model_name": model.name,
        "hook_name": recipe.site.hook_name,
        "context_size": recipe.cfg.context,
        "prepend_bos": bool(model.opening),
        "dataset_path": content_id(recipe.cfg.corpus),
        "tiny_ablation": recipe.covers,
    }
    with byte_bar("training", recipe.cfg.steps) as tick:
        return train(buffer, recipe.cfg, recipe.width, recipe.seed, work, device=device, metadata=metadata, tick=tick)
