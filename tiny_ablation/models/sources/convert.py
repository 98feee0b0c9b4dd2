"""A GGUF file becomes a plain Hugging Face directory: float32 safetensors, config and tokenizer.

The weights are de-quantised once; nothing is rounded on the way, and the same file gives the same bytes. It
takes about twenty seconds for 135 million parameters, most of it the tokenizer.
"""

import contextlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tiny_ablation.errors import ModelError, first_line, is_out_of_memory, panics_told
from tiny_ablation.models.sources.files import WEIGHTS
from tiny_ablation.models.sources.gguf_rope import with_rope_scaling
from tiny_ablation.models.sources.progress import spinner

MAGIC = b"GGUF"


def convert_gguf(gguf: Path, directory: Path, label: str) -> dict[str, str]:
    """Write the model and the tokenizer of `gguf` into the existing `directory`.

    Returns:
        The versions of the libraries that converted it.

    Raises:
        ModelError: the file is damaged, or of an architecture that transformers does not read from GGUF.
        OSError: the directory cannot be written.
    """
    with gguf.open("rb") as file:
        if file.read(4) != MAGIC:
            raise ModelError(f"{gguf} is not a GGUF file: it does not begin with {MAGIC.decode()}. Fetch it again.")
    with spinner(f"Converting {label} to safetensors, once"), quiet_transformers():
        try:
            with panics_told():
                config, tensors, tokenizer = _read(gguf)
        except Exception as error:  # a damaged file can raise anything in the three libraries that read it
            if isinstance(error, ModelError) or is_out_of_memory(error):
                raise
            said = first_line(error)
            raise ModelError(f"{gguf} cannot be read as a language model: {said}. Is it whole?") from error
        _write(directory, config, tensors)
        tokenizer.save_pretrained(directory)
    return {name: version(name) for name in ("gguf", "transformers", "torch", "safetensors")}


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' own bars and remarks; its settings are as before afterwards."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _read(gguf: Path) -> tuple[Any, dict[str, Any], Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name, "local_files_only": True}
    with torch.random.fork_rng(devices=[]), _without_bar():
        model: Any = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**place)
    settings = model.config.to_dict()
    settings.pop("quantization_config", None)  # the weights are no longer quantised
    settings["architectures"] = [type(model).__name__]
    return with_rope_scaling(gguf, type(model.config)(**settings)), _own_tensors(model), tokenizer


def _own_tensors(model: Any) -> dict[str, Any]:
    """The state dict with each tensor once; tied ones stand under their first name and are tied again."""
    kept, seen = {}, set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if place not in seen:
            kept[name] = tensor.contiguous()
        seen.add(place)
    return kept


def _write(directory: Path, config: Any, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    config.save_pretrained(directory)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})


@contextlib.contextmanager
def _without_bar() -> Iterator[None]:
    """The de-quantising loop takes tqdm by name and no setting of transformers reaches it."""
    import importlib

    module: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    original = module.tqdm
    module.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        module.tqdm = original
