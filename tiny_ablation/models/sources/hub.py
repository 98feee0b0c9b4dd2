"""`model.source=hub`: a model of the Hugging Face hub, from its cache if it is there, else from the network.

The cache comes first, so a run needs no network and does not change when a branch moves; the commit is
recorded. To take the newest state of a branch, name its commit in `model.revision`.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tiny_ablation.errors import ModelError, first_line
from tiny_ablation.models.sources.files import ModelFiles, checksum, missing_parts, weight_files

if TYPE_CHECKING:
    from tiny_ablation.config.schema import ModelConfig

PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
T = TypeVar("T")
TIMEOUT = 10.0  # seconds until a hub that does not answer counts as out of reach


def weights_id(cfg: "ModelConfig") -> str | None:
    """`hub:<repo>@<commit>` of the cached model; None when it is not, or not wholly, in the cache."""
    cached = directory(cfg)
    return None if cached is None else _identity(cfg, cached)


def prepare(cfg: "ModelConfig") -> ModelFiles:
    """Take the model from the hub's cache, or fetch it there."""
    found = directory(cfg) or _fetch(cfg)
    for path in weight_files(found):
        blob = path.resolve()  # the hub's cache names a large file by its SHA-256
        if re.fullmatch(r"[0-9a-f]{64}", blob.name) and checksum(blob) != blob.name:
            raise ModelError(
                f"{path.name} of {_repo(cfg)} in the Hugging Face cache has been altered. Delete {blob} and run again."
            )
    origin = {"repo": _repo(cfg), "revision": cfg.revision or "main", "commit": found.name}
    return ModelFiles(found, _identity(cfg, found), origin)


def _identity(cfg: "ModelConfig", directory: Path) -> str:
    return f"hub:{_repo(cfg)}@{directory.name}"


def _repo(cfg: "ModelConfig") -> str:
    name = cfg.id or cfg.repo
    if not name:
        raise ModelError("model=hub needs model.id=OWNER/NAME, a model of the Hugging Face hub.")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ModelError(f"model.{'id' if cfg.id else 'repo'}={name} must be a name on the Hugging Face hub, owner/name.")
    return name


def _snapshot(cfg: "ModelConfig", *, local_files_only: bool) -> Path:
    """The snapshot's directory, whose name is the commit."""
    from huggingface_hub import snapshot_download

    # A model's own code is fetched only when it is going to be run; subdirectories hold other formats.
    patterns = [*PATTERNS, *(["*.py"] if cfg.trust_remote_code else [])]
    return Path(
        snapshot_download(
            _repo(cfg),
            revision=cfg.revision,
            local_files_only=local_files_only,
            allow_patterns=patterns,
            ignore_patterns=["*/*"],
            etag_timeout=TIMEOUT,
        )
    )


def directory(cfg: "ModelConfig") -> Path | None:
    """The snapshot in the cache; None where it is not, or not wholly, there."""
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = _snapshot(cfg, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return None if missing_parts(found) else found


def _fetch(cfg: "ModelConfig") -> Path:
    from huggingface_hub import HfApi

    # First one short question, so that a missing network or a wrong name is known in seconds.
    info = _reach(cfg, lambda: HfApi().model_info(_repo(cfg), revision=cfg.revision, timeout=TIMEOUT))
    names = [sibling.rfilename for sibling in info.siblings or []]
    if not any(name.endswith(".safetensors") and "/" not in name for name in names):
        raise ModelError(
            f"{_repo(cfg)} has no safetensors on the hub. Other weight files are pickles, which can run code "
            "when they are opened, and are never read; look for a model.revision with safetensors."
        )
    with _bars_on_terminals():
        found = _reach(cfg, lambda: _snapshot(cfg, local_files_only=False))
    if missing := missing_parts(found):
        raise ModelError(f"{_repo(cfg)} on the hub is not a complete model: it lacks {', '.join(missing)}.")
    return found


def _reach(cfg: "ModelConfig", ask: Callable[[], T]) -> T:
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return ask()
    except GatedRepoError as error:
        reason = "asks you to accept its terms on huggingface.co and to log in (hf auth login)"
        raise ModelError(f"{_repo(cfg)} {reason}.") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{_repo(cfg)} has no revision {cfg.revision or 'main'} (model.revision).") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no public model {_repo(cfg)} (model.repo or model.id); check the name.") from error
    except Exception as error:  # the HTTP library has errors of its own, and changes
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        cause = "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else first_line(first)
        raise ModelError(
            f"{_repo(cfg)} is not in the Hugging Face cache, and the hub cannot be reached ({cause}). Set HF_HOME "
            "to a cache that has it, use a directory (model=local model.path=DIR), or the default model, which "
            "needs no hub."
        ) from error


@contextlib.contextmanager
def _bars_on_terminals() -> Iterator[None]:
    """The hub's own download bars, off where stderr is not a terminal."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    silenced = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if silenced:
        disable_progress_bars()
    try:
        yield
    finally:
        if silenced:
            enable_progress_bars()
