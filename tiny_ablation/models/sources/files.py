"""A model's files on disk: what there must be, and what identifies them.

Only safetensors are read. Pickled weights (`.bin`, `.pt`) can run code when they are opened; they are
refused.
"""

import json
import time
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from tiny_ablation.errors import ModelError
from tiny_ablation.store.files import sha256_file

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model")
_SETTLED_NS = 2_000_000_000  # more than the tick of any file system's clock
DESCRIBING = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class ModelFiles:
    """A Hugging Face directory that is ready to be loaded."""

    directory: Path  # with the config, the safetensors and the tokenizer
    weights_id: str  # see `identity.weights_id`
    origin: dict[str, str] = field(default_factory=dict)  # for a run's provenance
    adapter: Path | None = None  # the directory of a LoRA adapter to be merged into the weights
    tokenizer: Path | None = None  # the directory of the tokenizer, if it is another


def missing_parts(directory: Path) -> list[str]:
    """What a Hugging Face directory, of a model or an adapter, lacks to be loaded, in words; empty when it is complete."""
    if (directory / ADAPTER).is_file():
        return [] if (directory / ADAPTER_WEIGHTS).is_file() else [ADAPTER_WEIGHTS]
    missing = [] if (directory / CONFIG).is_file() else [CONFIG]
    if not any((directory / name).is_file() for name in (WEIGHTS, INDEX)):
        missing.append(f"{WEIGHTS} (or {INDEX})")
    missing += [name for name in _shards(directory) if not (directory / name).is_file()]
    if not any((directory / name).is_file() for name in TOKENIZERS):
        missing.append("a tokenizer (tokenizer.json or the like)")
    return missing


def pickled_weights(directory: Path) -> list[str]:
    """The names of weight files that are not safe to open."""
    return sorted(path.name for pattern in PICKLES for path in directory.glob(pattern))


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that a load would read."""
    if (directory / ADAPTER).is_file():
        return [directory / ADAPTER_WEIGHTS]
    names = [WEIGHTS] if (directory / WEIGHTS).is_file() else _shards(directory)
    return [directory / name for name in names]


def fingerprint(directory: Path) -> str:
    """A SHA-256 over all that decides the outputs of a model directory: weights, configs, tokenizer, template and code."""
    described = {path for pattern in DESCRIBING for path in directory.glob(pattern)}
    files = sorted({*weight_files(directory), *described}, key=lambda path: path.name)
    return sha256("".join(f"{path.name} {checksum(path)}\n" for path in files).encode()).hexdigest()


def checksum(path: Path) -> str:
    """The SHA-256 of a file; read once per process for as long as size, times and inode stay the same.

    A file that was written within the last seconds is read each time: what is written to it in the same tick of the clock
    changes neither its size nor its times.
    """
    stat = path.stat()
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) < _SETTLED_NS:
        return sha256_file(path)
    return _checksum(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@lru_cache(maxsize=1024)
def _checksum(path: Path, *_stat: int) -> str:
    return sha256_file(path)


def _shards(directory: Path) -> list[str]:
    index = directory / INDEX
    if not index.is_file() or (directory / WEIGHTS).is_file():
        return []
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        unsafe = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index} is not an index of safetensors files. Fetch the model again.") from error
    if unsafe:
        raise ModelError(f"{index} names {unsafe[0]!r}, which is not a safetensors file beside it; it is not read.")
    return names
