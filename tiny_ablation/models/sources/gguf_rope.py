"""The rotary scaling that a GGUF file names, which transformers does not read: as a config has it, or refused.

llama.cpp keeps it in the metadata (`rope.scaling.*`), and Llama 3's as a tensor of divisors, one a frequency (`rope_freqs`).
Without it every long prompt, and with `rope_freqs` every prompt, gets the numbers of another model.
"""

from pathlib import Path
from typing import Any

from tiny_ablation.errors import ModelError

# How Llama 3.1 to 3.3 scale; the file has the divisors that follow from it, and the largest of them is `factor`.
_LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_READ_BY_TRANSFORMERS = ("gpt-oss",)


def with_rope_scaling(gguf: Path, config: Any) -> Any:
    """The config of a model with the rotary scaling that its file names.

    Args:
        gguf: the file.
        config: what transformers makes of it.

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
