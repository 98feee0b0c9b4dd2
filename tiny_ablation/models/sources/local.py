"""`model.source=local`: a Hugging Face directory, or a `.gguf` file, converted once into the cache."""

from pathlib import Path
from typing import TYPE_CHECKING

from tiny_ablation.errors import ModelError
from tiny_ablation.models.sources.convert import convert_gguf
from tiny_ablation.models.sources.files import ModelFiles, checksum, fingerprint, missing_parts, pickled_weights
from tiny_ablation.models.sources.store import converted

if TYPE_CHECKING:
    from tiny_ablation.config.schema import ModelConfig


def weights_id(cfg: "ModelConfig") -> str:
    """`gguf:<sha256>` of a file, `files:<sha256>` of a directory."""
    path = _existing(cfg)
    try:
        return f"files:{fingerprint(path)}" if path.is_dir() else f"gguf:{checksum(path)}"
    except OSError as error:
        raise ModelError(f"model.path={cfg.path} cannot be read: {error.strerror or error}.") from error


def prepare(cfg: "ModelConfig") -> ModelFiles:
    """Check a directory, or convert a file unless the cache has it, whole."""
    path, identity = _existing(cfg), weights_id(cfg)
    digest = identity.partition(":")[2]
    if path.is_dir():
        return ModelFiles(path, identity, {"path": str(path), "files_sha256": digest})
    # Not under `gguf`, where earlier versions left conversions without the file's rotary scaling.
    directory = converted("file", identity, lambda target: convert_gguf(path, target, path.name))
    return ModelFiles(directory, identity, {"path": str(path), "gguf_sha256": digest})


def directory(cfg: "ModelConfig") -> Path | None:
    """The directory; None for a file."""
    path = _existing(cfg)
    return path if path.is_dir() else None


def _existing(cfg: "ModelConfig") -> Path:
    if not cfg.path:
        raise ModelError("model=local needs model.path=..., a Hugging Face directory or a .gguf file.")
    path = Path(cfg.path).expanduser()
    if path.is_dir():
        if missing := missing_parts(path):
            pickled = pickled_weights(path)
            advice = (
                f"It has {pickled[0]}, a pickle, which can run code when it is opened and is never read; convert it to "
                "safetensors."
                if pickled
                else "Give the directory that save_pretrained wrote, of the model and of the tokenizer."
            )
            raise ModelError(f"model.path={cfg.path} is not a complete model: it lacks {', '.join(missing)}. {advice}")
    elif not path.is_file():
        raise ModelError(f"model.path={cfg.path} does not exist; give a Hugging Face directory or a .gguf file.")
    elif path.suffix.lower() != ".gguf":
        raise ModelError(f"model.path={cfg.path} is a file but not a .gguf; of a Hugging Face model give the directory.")
    return path.resolve()
