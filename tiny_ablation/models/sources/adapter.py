"""A LoRA adapter as PEFT saves it: which model it was trained on, and the two merged in memory.

An adapter is a directory, or a repository of the hub, with an `adapter_config.json`. Its base is what that file names, or
`model.base`. Merged are plain LoRA, rank-stabilised LoRA and DoRA. What merging cannot make exact, or would make by drawing
at random, is refused by the name of the setting.
"""

import json
import re
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.choices import ModelSource
from tiny_ablation.data.text import listing
from tiny_ablation.errors import MissingExtraError, ModelError, first_line, is_out_of_memory
from tiny_ablation.models.sources.files import ADAPTER, ADAPTER_WEIGHTS, CONFIG, TOKENIZERS, ModelFiles

if TYPE_CHECKING:
    from tiny_ablation.config.schema import ModelConfig

# Settings of adapter_config.json that merging understands, or that play no part in it.
_KNOWN = (
    "alpha_pattern auto_mapping base_model_name_or_path bias exclude_modules fan_in_fan_out inference_mode init_lora_weights "
    "layers_pattern layers_to_transform lora_alpha lora_bias lora_dropout megatron_core peft_type peft_version "
    "qalora_group_size r rank_pattern revision runtime_config target_modules task_type use_dora use_rslora"
)
_UNSET = (None, False, {}, [], "")
# Beginnings of training that leave the base as it is; others (PiSSA, OLoRA, LoftQ, ...) train beside a changed base.
_BEGINNINGS = (True, False, "gaussian", "orthogonal", "eva")


def base_of(cfg: "ModelConfig", directory: Path) -> "ModelConfig":
    """The config of the model that an adapter belongs to: `model.base`, or else what its adapter_config.json names.

    Raises:
        ModelError: no base is named or it is no place, or the adapter cannot be merged exactly.
        MissingExtraError: peft is not installed.
    """
    settings = _settings(directory)
    given = cfg.base or settings.get("base_model_name_or_path")
    if not given or not isinstance(given, str):
        raise ModelError(
            f"the adapter in {directory} does not say which model it belongs to; give model.base=DIR or OWNER/NAME."
        )
    if (directory / CONFIG).is_file():
        raise ModelError(
            f"{directory} holds a whole model ({CONFIG}) and an adapter ({ADAPTER}); keep them in directories of their own."
        )
    alone = replace(cfg, base=None, id=None, repo=None, revision=None, path=None)
    if Path(given).expanduser().exists():
        return replace(alone, source=ModelSource.local, path=given)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", given):
        raise ModelError(
            f"the adapter in {directory} belongs to {given}, which is not here; give its base: model.base=DIR or OWNER/NAME."
        )
    return replace(alone, source=ModelSource.hub, id=given, revision=None if cfg.base else settings.get("revision"))


def joined_id(own: str, base: str) -> str:
    """What identifies the merged weights: both, and the version of the library that merges them."""
    try:
        return f"lora:{own}+{base}+peft:{version('peft')}"
    except PackageNotFoundError as error:
        raise MissingExtraError(
            "the model is a LoRA adapter, which needs an extra: pip install 'tiny-ablation[peft]'"
        ) from error


def joined(own: ModelFiles, base: ModelFiles) -> ModelFiles:
    """The files of an adapter and of its base as those of one model. Raises ModelError if the base is an adapter itself."""
    if (base.directory / ADAPTER).is_file():
        raise ModelError(f"{base.directory}, the base of the adapter, is itself an adapter; merge it first.")
    origin = own.origin | {f"base_{key}": value for key, value in base.origin.items()}
    has_tokenizer = any((own.directory / name).is_file() for name in TOKENIZERS)
    return ModelFiles(
        directory=base.directory,
        weights_id=joined_id(own.weights_id, base.weights_id),
        origin=origin | {"adapter": f"lora, merged by peft {version('peft')}"},
        adapter=own.directory,
        tokenizer=own.directory if has_tokenizer else base.tokenizer,
    )


def merge(hf: Any, directory: Path) -> Any:
    """The base with the adapter merged into it; `hf` is used up.

    Raises:
        ModelError: the adapter does not fit the base, every tensor by name.
    """
    import torch

    try:
        with torch.random.fork_rng(devices=[]):  # peft draws the adapter's weights before it is given them
            return _merge(hf, directory)
    except Exception as error:  # an adapter of another model raises anything in peft
        if isinstance(error, ModelError) or is_out_of_memory(error):
            raise
        said = first_line(error)
        raise ModelError(f"the adapter in {directory} cannot be merged: {said}. Is it of another base?") from error


def _merge(hf: Any, directory: Path) -> Any:
    from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict  # pyright: ignore[reportMissingImports]
    from safetensors.torch import load_file

    config: Any = LoraConfig.from_pretrained(str(directory), local_files_only=True)
    config.init_lora_weights = True
    model: Any = PeftModel(hf, config)
    ends = [end for end in (hf.get_input_embeddings(), hf.get_output_embeddings()) if end is not None]
    tied = len({id(end.weight) for end in ends}) < len(ends)
    if tied and any(hasattr(end, "base_layer") for end in ends):
        raise ModelError(
            f"the adapter in {directory} changes an embedding that its base ties to another (tie_word_embeddings); merged, it "
            "would change both."
        )
    given = load_file(directory / ADAPTER_WEIGHTS)
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    faults = [
        f"{words}: {listing(sorted(keys))}"
        for words, keys in (
            ("no place for", given.keys() - wanted.keys()),
            ("it lacks", wanted.keys() - given.keys()),
            ("another shape of", {k for k in given.keys() & wanted.keys() if given[k].shape != wanted[k].shape}),
        )
        if keys
    ]
    if faults:
        raise ModelError(f"the adapter in {directory} does not fit its base: {'; '.join(faults)}.")
    set_peft_model_state_dict(model, given)
    return model.merge_and_unload(safe_merge=True)


def _settings(directory: Path) -> dict[str, Any]:
    """What adapter_config.json says, of a LoRA adapter that can be merged exactly."""
    try:
        settings = dict(json.loads((directory / ADAPTER).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{directory / ADAPTER} cannot be read as the settings of an adapter.") from error
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise ModelError(
            f"the adapter in {directory} is of the kind {kind}, and only LORA can be merged into the weights of its base."
        )
    known = _KNOWN.split()
    odd = sorted(key for key, value in settings.items() if key not in known and value not in _UNSET)
    if settings.get("init_lora_weights", True) not in _BEGINNINGS:
        odd.append(f"init_lora_weights={settings['init_lora_weights']}")
    if odd:
        raise ModelError(
            f"the adapter in {directory} sets {listing(odd)} ({ADAPTER}), which is not merged here. Merge it yourself "
            "(merge_and_unload, save_pretrained) and give that directory."
        )
    return settings
