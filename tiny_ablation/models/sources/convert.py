"""A GGUF file becomes a plain Hugging Face directory: float32 safetensors, config and tokenizer.

The weights are de-quantised once, without further rounding, and the same file gives the same bytes. It takes about twenty
seconds for 135 million parameters, most of it for the tokenizer.
"""

import contextlib
import importlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tiny_ablation.errors import ModelError, first_line, is_out_of_memory, panics_told
from tiny_ablation.models.sources.files import WEIGHTS
from tiny_ablation.models.sources.progress import spinner

MAGIC = b"GGUF"
# How Llama 3.1 to 3.3 scale; the file has the divisors that follow from it, and the largest of them is `factor`.
_LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_READ_BY_TRANSFORMERS = ("gpt-oss",)


def convert_gguf(gguf: Path, directory: Path, label: str) -> dict[str, str]:
    """Write the model and the tokenizer of `gguf` into the existing `directory`.

    Returns:
        The versions of the libraries that converted it.

    Raises:
        ModelError: the file is damaged, or of an architecture that transformers does not read from GGUF.
        OSError: the directory cannot be written.
    """
    from safetensors.torch import save_file

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
        config.save_pretrained(directory)
        save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
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
    """Config, tensors and tokenizer; tied tensors stand under their first name only."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name, "local_files_only": True}
    loop: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    bar, loop.tqdm = loop.tqdm, lambda items, **_: items  # a bar that no setting of transformers reaches
    try:
        with torch.random.fork_rng(devices=[]):
            model: Any = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(**place)
    finally:
        loop.tqdm = bar
    settings = model.config.to_dict()
    settings.pop("quantization_config", None)  # the weights are no longer quantised
    settings["architectures"] = [type(model).__name__]
    tensors, seen = {}, set()
    for name, tensor in model.state_dict().items():
        memory = (tensor.data_ptr(), tensor.shape)
        if memory not in seen:
            tensors[name] = tensor.contiguous()
        seen.add(memory)
    return _with_rope_scaling(gguf, type(model.config)(**settings)), tensors, tokenizer


def _with_rope_scaling(gguf: Path, config: Any) -> Any:
    """The config of a model with the rotary scaling that its file names, which transformers does not read.

    llama.cpp keeps it in the metadata (`rope.scaling.*`), and Llama 3's as a tensor of divisors, one per frequency
    (`rope_freqs`). Without it every long prompt, and with `rope_freqs` every prompt, would get the numbers of another model.

    Raises:
        ModelError: the scaling is of a kind that has no certain counterpart.
    """
    from gguf import GGUFReader

    reader: Any = GGUFReader(gguf)
    arch = str(reader.fields["general.architecture"].contents())
    named = {
        name.removeprefix(f"{arch}.rope."): field.contents()
        for name, field in reader.fields.items()
        if name.startswith((f"{arch}.rope.scaling.", f"{arch}.rope.scale"))
    }
    tensors = {tensor.name: tensor for tensor in reader.tensors if tensor.name.startswith("rope_f")}
    kind = named.get("scaling.type", "linear" if {"scale_linear", "scaling.factor"} & set(named) else "none")
    if arch in _READ_BY_TRANSFORMERS or (kind == "none" and not tensors):
        return config
    if kind == "linear" and not tensors:
        factor = float(named.get("scaling.factor", named.get("scale_linear", 1.0)))
        return _scaled(config, {"rope_type": "linear", "factor": factor})
    if kind == "none" and set(tensors) == {"rope_freqs.weight"}:
        divisors = tensors["rope_freqs.weight"].data
        scaled = _scaled(config, _LLAMA3 | {"factor": float(divisors.max())})
        if _divides(config, scaled, divisors):
            return scaled
    raise ModelError(
        f"{gguf} scales its rotary embedding in a way that has no certain counterpart in transformers (rope.scaling.type "
        f"{kind}, tensors {', '.join(sorted(tensors)) or 'none'}). Take the model in Hugging Face's format."
    )


def _scaled(config: Any, scaling: dict[str, Any]) -> Any:
    settings = config.to_dict()
    settings["rope_parameters"] = {"rope_theta": config.rope_parameters["rope_theta"]} | scaling
    return type(config)(**settings)


def _divides(config: Any, scaled: Any, divisors: Any) -> bool:
    """Whether the scaled config's frequencies are the plain ones, each divided by its divisor."""
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    plain = 1.0 / config.rope_parameters["rope_theta"] ** (torch.arange(0, size, 2).double() / size)
    asked = ROPE_INIT_FUNCTIONS["llama3"](scaled, device="cpu")[0].double()
    by = torch.tensor(divisors.astype("float64"))
    return asked.shape == by.shape and torch.allclose(plain / by, asked, rtol=1e-4)
