"""From `model.*` in the config to weights and a tokenizer in memory.

The one entrance to all sources. A process keeps the models that it has loaded as long as memory allows, so the
jobs of a sweep load each once, in whatever order they come. Files are checked against their hashes before they
are opened (about a second for the default model).
"""

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tiny_ablation.config.schema import ModelConfig, ModelSource, Weights
from tiny_ablation.errors import DeviceError, ModelError, first_line, is_out_of_memory, panics_told
from tiny_ablation.models.device import convert
from tiny_ablation.models.folding import fold_weights
from tiny_ablation.models.identity import IN_MEMORY, identity, prepare, weights_id
from tiny_ablation.models.opening import Ids, facts, opening
from tiny_ablation.models.placed import Placement, how_to_load, is_placed, settle, where
from tiny_ablation.models.sources import adapter
from tiny_ablation.models.sources.convert import quiet_transformers
from tiny_ablation.models.sources.files import ModelFiles
from tiny_ablation.models.sources.fit import refuse_countless, refuse_larger, refuse_misfit, refuse_quantized
from tiny_ablation.models.sources.progress import notice

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_held: "dict[tuple[object, ...], LoadedModel]" = {}  # the one that was used last stands last
_SHARE_HELD = 0.25  # of the machine's memory; more would crowd out the other workers of a sweep


@dataclass
class LoadedModel:
    """Weights, tokenizer, and where they came from."""

    name: str  # what tables and paths call it
    hf: "PreTrainedModel"  # in eval mode, without gradients, on its device and in its precision
    tokenizer: "PreTrainedTokenizerBase"
    opening: Ids  # the special tokens that every prompt begins with; see `opening`
    weights_hash: str  # `identity.weights_id` of what was loaded, whatever has become of the files since
    origin: dict[str, str]  # for the provenance: source, file hashes or commit, weight processing

    @property
    def context(self) -> int | None:
        """How many tokens a prompt may have: the positions that the model was made for; None where it names no limit."""
        return _positions(self.hf.config)


class TokenizerOnly(NamedTuple):
    """What is needed to tokenise for a model, as in `LoadedModel`."""

    name: str
    tokenizer: "PreTrainedTokenizerBase"
    opening: Ids
    context: int | None


def load_model(cfg: ModelConfig, *, device: str, dtype: str, placed: Placement | None = None) -> LoadedModel:
    """The model of `cfg`, ready to run on the torch device `device`, or spread over several.

    Raises:
        ModelError: the model is missing, damaged or of an architecture that cannot be used.
        DeviceError: the weights do not fit on the device.
    """
    import psutil

    files = prepare(cfg)
    given = tuple(getattr(cfg, field.name) for field in fields(ModelConfig))
    key = (*given, identity(cfg, files), placed, device, dtype)
    if key in _held:
        _held[key] = _held.pop(key)
        return _held[key]
    for stale in [other for other in _held if other[: len(given)] == given and other[-3:] == key[-3:]]:
        del _held[stale]  # the same files with another content
    # Let go of what was used longest ago, until another model as large as the largest would fit with the rest.
    allowed = _SHARE_HELD * psutil.virtual_memory().total
    sizes = {held: sum(p.nbytes for p in model.hf.parameters()) for held, model in _held.items()}
    while sizes and (any(held[-2] != "cpu" for held in sizes) or sum(sizes.values()) + max(sizes.values()) > allowed):
        oldest = next(iter(_held))
        del _held[oldest], sizes[oldest]
    gc.collect()  # a network and its hooks refer to each other
    _held[key] = _load(cfg, files, device, dtype, placed)
    return _held[key]


def load_tokenizer(cfg: ModelConfig) -> TokenizerOnly:
    """The tokenizer of `cfg` without its weights in memory; their files are made ready all the same.

    Raises:
        ModelError: the model is missing or damaged.
    """
    files = prepare(cfg)
    if files is None:
        source = IN_MEMORY[cfg.source]
        tokenizer, context = source.make_tokenizer(cfg), source.context(cfg)
    else:
        tokenizer, context = _read_tokenizer(cfg, files), _positions(_read_config(cfg, files))
        _refuse_changed(cfg, files)
    return TokenizerOnly(cfg.name, tokenizer, opening(cfg, tokenizer), context)


def forget() -> None:
    """Let go of the models that are held, and of their memory."""
    _held.clear()
    gc.collect()  # a network and its hooks refer to each other


def load_plain(cfg: ModelConfig, *, dtype: str, weights: str, on_disk: bool = False) -> Any:
    """The bare model of `cfg` once more, as transformers loads it: on the CPU, with eager attention, held by nobody.

    Weights are rounded to `dtype`; what transformers keeps in another precision (rotary frequencies, some routers) stays so.
    `on_disk` leaves the weights there, to be read for each pass. `weights` is the `weights_hash` that the files must have.

    Raises:
        ModelError: as `load_model`; or the files hold other weights by now.
    """
    import torch

    files = prepare(cfg)
    read_as = _read_as(cfg, files, dtype)
    if identity(cfg, files) != weights:
        raise ModelError(f"model {cfg.name}: its files have changed since the run loaded them; they cannot verify it.")
    if files is None:
        hf = IN_MEMORY[cfg.source].build(cfg)[0]
        hf.set_attn_implementation("eager")
    else:
        eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
        how = how_to_load(None) if on_disk else {}
        hf = _read_model(cfg, files, read_as, **eager, **how)
        if on_disk:
            settle(hf, how["offload_folder"])
            _refuse_changed(cfg, files)
            return hf
        if cfg.quantization is not None:
            hf = hf.dequantize()
        _refuse_changed(cfg, files)
    if cfg.weights is Weights.folded:
        fold_weights(hf)
    if files is None or read_as != dtype:
        # Buffers that the model computes for itself are not in the state.
        for tensor in filter(torch.is_floating_point, hf.state_dict(keep_vars=True).values()):
            tensor.data = tensor.data.to(getattr(torch, dtype))
    return hf.eval().requires_grad_(False)


def _read_as(cfg: ModelConfig, files: ModelFiles | None, dtype: str) -> str:
    """Folding, merging and rounding compute new weights, so they are done in float32 whatever the run's precision is."""
    if cfg.quantization is not None:
        return "float32"
    computed = cfg.weights is Weights.folded or (files is not None and files.adapter is not None)
    return "float32" if computed and dtype in ("float16", "bfloat16") else dtype


def _load(cfg: ModelConfig, files: ModelFiles | None, device: str, dtype: str, placed: Placement | None) -> LoadedModel:
    _refuse_combinations(cfg, files, placed)
    read_as, how = None, {} if placed is None else how_to_load(placed)
    if files is None:
        (hf, tokenizer), origin = IN_MEMORY[cfg.source].build(cfg), {}
    else:
        read_as = _read_as(cfg, files, dtype)
        hf, tokenizer = _read_model(cfg, files, read_as, device=device, **how), _read_tokenizer(cfg, files)
        origin = files.origin
        if cfg.quantization is not None:
            from tiny_ablation.models.quantized import keep_packed

            keep_packed(hf)
            origin = origin | {"quantization": cfg.quantization}
        _refuse_changed(cfg, files)
    if cfg.weights is Weights.folded:
        fold_weights(hf)
    if placed is None:
        _settle(hf, cfg, device, None if read_as == dtype else dtype)
    else:
        settle(hf, how["offload_folder"])
        if is_placed(hf):
            origin = origin | {"placed": where(hf)}
            notice(f"{cfg.name}: {origin['placed']}; what is not on the first device is read for each pass.")
    origin = {"source": cfg.source.value, **origin, "weights": cfg.weights.value}
    first = opening(cfg, tokenizer)
    origin |= facts(cfg, tokenizer, first)
    if left_out := origin.get("closing_left_out"):
        notice(
            f"Warning: the tokenizer of {cfg.name} ends every text with {left_out}; prompts go without it, since their answer "
            "follows them."
        )
    return LoadedModel(cfg.name, hf, tokenizer, first, identity(cfg, files), origin)


def _refuse_combinations(cfg: ModelConfig, files: ModelFiles | None, placed: Placement | None) -> None:
    if cfg.quantization is not None:
        asked = f"model.quantization={cfg.quantization}"
        if files is None:
            raise ModelError(f"{asked} rounds weights that are read from files, and model {cfg.name} is made in memory.")
        if cfg.weights is Weights.folded:
            raise ModelError(f"{asked} rounds weights as trained; use model.weights=raw.")
        if files.adapter is not None:
            raise ModelError(f"{asked} does not go with a LoRA adapter; merge the two, save the model, and name its directory.")
    given = {  # weights that are computed from those of the files have to be in memory
        "model.quantization": cfg.quantization is not None,
        "model.weights=folded": cfg.weights is Weights.folded,
        "a LoRA adapter": files is not None and files.adapter is not None,
        "a model that is made in memory": files is None,
    }
    if placed is not None and (found := [name for name, is_so in given.items() if is_so]):
        raise ModelError(f"device.map=auto places weights as they are in the files, which does not go with {found[0]}.")


def _refuse_changed(cfg: ModelConfig, files: ModelFiles) -> None:
    """Refuse a model whose files changed while they were read: nobody knows which of the two contents is in memory."""
    if weights_id(cfg) != files.weights_id:
        raise ModelError(
            f"model {cfg.name}: the files in {files.directory} changed while they were loaded. Run again when nothing writes "
            "there."
        )


def _settle(hf: Any, cfg: ModelConfig, device: str, dtype: str | None) -> None:
    """Put the model in its final state: no dropout, no gradients, on its device and in its precision (None: as it is)."""
    hf.eval().requires_grad_(False)
    try:
        convert(hf, device=device, dtype=dtype)
    except (RuntimeError, AssertionError) as error:  # out of memory; torch built without the device
        raise DeviceError(f"model {cfg.name} cannot be put on device={device}: {first_line(error)}") from error


def _read_model(cfg: ModelConfig, files: ModelFiles, dtype: str, device: str = "cpu", **how: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    config = _read_config(cfg, files)
    refuse_quantized(cfg.name, config)
    if cfg.quantization is not None:
        from tiny_ablation.models.quantized import how_to_load

        how |= how_to_load(cfg.quantization, device)
    auto = cast("Any", AutoModelForCausalLM)
    with _reading(cfg, files), torch.random.fork_rng(devices=[]):
        if cfg.source in (ModelSource.hub, ModelSource.local):
            with torch.device("meta"):
                skeleton = auto.from_config(config, trust_remote_code=cfg.trust_remote_code)
            refuse_larger(cfg.name, files.directory, skeleton)
        hf, report = auto.from_pretrained(
            files.directory,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=cfg.trust_remote_code,
            ignore_mismatched_sizes=True,  # told by name below, with everything else that does not fit
            output_loading_info=True,
            **how,  # the attention is sdpa, or eager where the model has no sdpa
        )
    refuse_misfit(cfg.name, files.directory, hf, report)
    if files.adapter is not None:
        with _reading(cfg, files):
            hf = adapter.merge(hf, files.adapter)
    if cfg.source is ModelSource.local:
        for tensor in (*hf.parameters(), *hf.buffers()):
            # Else it is a view of the file, and changes with it when a training writes its next checkpoint there.
            if not tensor.is_meta:
                tensor.data = tensor.data.clone()
    return hf


def _read_tokenizer(cfg: ModelConfig, files: ModelFiles) -> Any:
    from transformers import AutoTokenizer

    directory, remote = files.tokenizer or files.directory, cfg.trust_remote_code
    with _reading(cfg, files, "tokenizer of "):
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=remote)


def _read_config(cfg: ModelConfig, files: ModelFiles) -> Any:
    from transformers import AutoConfig

    with _reading(cfg, files):
        refuse_countless(cfg.name, files.directory)
        return AutoConfig.from_pretrained(files.directory, local_files_only=True, trust_remote_code=cfg.trust_remote_code)


@contextlib.contextmanager
def _reading(cfg: ModelConfig, files: ModelFiles, part: str = "") -> Iterator[None]:
    """Within: transformers is quiet, and what it raises becomes a `ModelError` that names the directory."""
    try:
        with quiet_transformers(), panics_told():
            yield
    except Exception as error:  # damaged or foreign files raise anything in the libraries that read them
        if isinstance(error, ModelError) or is_out_of_memory(error):
            raise
        raise ModelError(
            f"the {part}model {cfg.name} in {files.directory} cannot be read: {first_line(error)}. It must be a "
            "causal language model that the installed transformers knows, with whole safetensors files."
        ) from error


def _positions(config: Any) -> int | None:
    """What a Hugging Face config says, under whatever name its architecture gives it."""
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None
