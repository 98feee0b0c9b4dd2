"""Autoencoders that were trained here: one directory each in the user's cache, made once and shared by all runs.

    <cache>/sae/<name>/          SAELens' format (cfg.json, sae_weights.safetensors, sparsity.safetensors), and
                                 `trained.json`: recipe, losses, quality; `held_out.safetensors`: the tokens that quality
                                 was measured on; `training_profile.json`: time and memory
    <cache>/sae/<name>.work/     contexts, activations and the last checkpoint of a training that is not finished
    <cache>/sae/<name>.lock      held by the process that trains; others wait for it

A killed training goes on from its last checkpoint when the same autoencoder is asked for again, from whichever run.
"""

import os
import shutil
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
from tiny_ablation.models.sources.store import cannot_keep
from tiny_ablation.paths import cache_dir
from tiny_ablation.sae.buffer import fill_buffer
from tiny_ablation.sae.clock import Clock
from tiny_ablation.sae.contexts import Contexts, contexts, own_samples
from tiny_ablation.sae.corpus import content_id
from tiny_ablation.sae.site import Site, resolve_site
from tiny_ablation.store.cache_entries import LEFT, MARK, Entry, mark
from tiny_ablation.store.checksummed_json import read_sealed, write_sealed
from tiny_ablation.store.files import flush_files, read_json, sha256_file, write_json, write_via
from tiny_ablation.store.locks import hold, is_locked
from tiny_ablation.store.profile import peak_memory
from tiny_ablation.store.provenance import numeric_versions

if TYPE_CHECKING:
    import numpy as np

    from tiny_ablation.models.network import Network

RECORD, MACHINE, HELD_OUT = "trained.json", "training_profile.json", "held_out.safetensors"
_WORK = ".work"
VERSION = 2  # raise it when the same recipe gives another autoencoder
_RECIPE = ("architecture", "k", "sparsity", "tokens", "own_samples", "context", "held_out", "steps", "batch", "lr")


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a trained autoencoder, and where to put it.

    Attributes:
        network: the model.
        cfg: how.
        seed: the run's seed.
        site: where.
        width: features.
        device: where to compute.
        batch_tokens: tokens in one forward pass.
    """

    network: "Network"
    cfg: SaeConfig
    seed: int
    site: Site
    width: int
    device: str
    batch_tokens: int

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
    """What `cfg` means for this model.

    Raises:
        ConfigError: the model has no such layer.
    """
    site = resolve_site(cfg.component, cfg.layer, network.shape)
    width = cfg.width or 2 * site.width(network.shape)
    return Recipe(network, cfg, seed, site, width, network.device, 2048)


def trained(recipe: Recipe, *, anew: bool = False) -> Path:
    """The directory of the trained autoencoder; trains it if it is not there.

    Args:
        recipe: what to train.
        anew: train it even if it is there, and from the start.

    Raises:
        ModelError: the cache cannot be written.
        Interrupted: stopped by Ctrl-C; what was computed is kept.
    """
    from filelock import FileLock

    target = recipe.directory
    work = target.with_name(f"{target.name}{_WORK}")
    if not anew and is_whole(target) and not work.exists():
        return hold(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_lock(target))
        if is_locked(_lock(target)):
            notice(f"Another process is training {target.name}; waiting for it.")
        with lock:
            if anew:
                _clear(target, work)
            if not is_whole(target):
                work.mkdir(exist_ok=True)
                mark(work)
                _make(recipe, target, work)
            shutil.rmtree(work, ignore_errors=True)  # also where a process was killed at its very end
    except Exception as error:
        if told := cannot_keep(error, f"the autoencoder in {target.parent}"):
            raise told from error
        raise
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


def _clear(*directories: Path) -> None:
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def _make(recipe: Recipe, target: Path, work: Path) -> None:
    """Text, activations, training, quality; then everything appears under its name at once."""
    clock = Clock(work / "clock.json")
    notice(
        f"Training a sparse autoencoder at {recipe.site.hook_name} of {recipe.network.model.name} "
        f"({recipe.width} features); it is kept in {target.parent} and made once."
    )
    with clock.stage("text"):
        found = _contexts(recipe, work)
    with clock.stage("activations"):
        buffer = _buffer(recipe, found.train, work)
    with clock.stage("training"):
        sae, curve = _train(recipe, buffer, work)
    part = work / "finished"
    shutil.rmtree(part, ignore_errors=True)
    sae.save_inference_model(part)
    config = part / "cfg.json"  # whose keys SAELens leaves in an order that changes from process to process
    write_json(config, dict(sorted(read_json(config).items())))
    write_held_out(part, found.held_out)
    with clock.stage("quality"):
        numbers = _measure(recipe, found.held_out, part)
    _seal(recipe, part, curve, numbers, clock)
    flush_files(part)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(part, target)


def _contexts(recipe: Recipe, work: Path) -> Contexts:
    """Drawn once; a training that goes on sees the same text whatever the machine's threads do to sampling."""
    import numpy as np

    path, record = work / "contexts.npz", work / "contexts.json"
    if not _is_as_recorded(path, record):
        _empty(work)  # what follows from another text is of no use
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


def _is_as_recorded(path: Path, record: Path) -> bool:
    try:
        return read_sealed(record)["sha256"] == sha256_file(path)
    except ResultsError:
        return False


def _empty(work: Path) -> None:
    """Begin anew; a text without its record is not damaged but was just being written."""
    if (work / "contexts.json").exists():
        notice(f"{work} is damaged; training begins anew.")
    for path in (each for each in work.iterdir() if each.name != MARK):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _buffer(recipe: Recipe, train: "np.ndarray", work: Path) -> Any:
    total = len(train) * (train.shape[1] - 1)
    with byte_bar("activations", total) as tick:
        return fill_buffer(
            recipe.network, recipe.site, train, work / "activations.f32", batch_tokens=recipe.batch_tokens, tick=tick
        )


def _train(recipe: Recipe, buffer: Any, work: Path) -> tuple[Any, list[dict[str, float]]]:
    from tiny_ablation.sae.training import train

    model = recipe.network.model
    metadata = {
        "model_name": model.name,
        "hook_name": recipe.site.hook_name,
        "context_size": recipe.cfg.context,
        "prepend_bos": bool(model.opening),
        "dataset_path": content_id(recipe.cfg.corpus),
        "tiny_ablation": recipe.covers,
    }
    with byte_bar("training", recipe.cfg.steps) as tick:
        return train(buffer, recipe.cfg, recipe.width, recipe.seed, work, device=recipe.device, metadata=metadata, tick=tick)


def _measure(recipe: Recipe, held_out: "np.ndarray", part: Path) -> dict[str, float]:
    """Quality of what was written, read back as SAELens reads it."""
    import torch
    from safetensors.torch import save_file

    from tiny_ablation.sae.loading import read
    from tiny_ablation.sae.quality import quality

    with byte_bar("quality", 2 * len(held_out)) as tick:
        found = quality(recipe.network, read(part, recipe.device), held_out, tick)
    log = torch.log10(found.frequency.float() + 1e-10)
    save_file({"sparsity": log}, part / "sparsity.safetensors")
    return found.numbers


def write_held_out(directory: Path, contexts: "np.ndarray") -> None:
    """Keep the held-out text, for whoever wants to look at features or measure again."""
    from safetensors.numpy import save_file

    save_file({"contexts": contexts}, directory / HELD_OUT)


def _seal(recipe: Recipe, part: Path, curve: list[dict[str, float]], numbers: dict[str, float], clock: "Clock") -> None:
    """The record goes last: a directory with one is whole."""
    files = {path.name: sha256_file(path) for path in sorted(part.iterdir())}
    write_json(part / MACHINE, {"stages_s": clock.stages, "peak_rss_bytes": peak_memory()})
    write_sealed(part / RECORD, {"recipe": recipe.covers, "quality": numbers, "curve": curve, "files": files})
