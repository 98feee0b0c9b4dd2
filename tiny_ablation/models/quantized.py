"""Weights of linear maps in 4 or 8 bits: rounded by bitsandbytes, kept packed, and multiplied as the numbers they stand for.

4 bits are NF4 in blocks of 64 (Dettmers et al. 2023, "QLoRA"), 8 bits a scale for each row (Dettmers et al. 2022,
"LLM.int8()"). Embeddings, the unembedding and norms stay as they are, as transformers leaves them.

bitsandbytes' own products also round activations, by scales that depend on the whole pass, so that a prompt's logits depend on
its neighbours (8 bits: by more than 1 logit on the default model). Here weights are unpacked for each product, in the precision
of the run, and activations are not rounded: in any pass the numbers are those of the model after `PreTrainedModel.dequantize`.
"""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from tiny_ablation.errors import MissingExtraError


class PackedLinear(nn.Module):
    """A linear map with packed weights, taken from bitsandbytes' `Linear4bit` or `Linear8bitLt` without a copy."""

    packed: Tensor
    scale: Tensor
    code: Tensor
    like: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.bias = layer.bias
        state = getattr(layer.weight, "quant_state", None)
        kept = {"packed": layer.weight.data}
        kept |= {"scale": layer.weight.SCB} if state is None else {"scale": state.absmax, "code": state.code}
        for name, tensor in kept.items():
            self.register_buffer(name, tensor, persistent=False)  # whose precision is not the run's
        self.register_buffer("like", torch.empty(0, device=kept["packed"].device))
        self.shape: tuple[int, int] = tuple(layer.weight.shape if state is None else state.shape)
        self._block = None if state is None else state.blocksize

    @property
    def weight(self) -> Tensor:
        """(out, in), unpacked, in the precision of the run."""
        import bitsandbytes.functional as bnb

        if self._block is None:
            return bnb.int8_vectorwise_dequant(self.packed, self.scale).to(self.like)
        state = bnb.QuantState(
            self.scale, shape=self.shape, code=self.code, blocksize=self._block, quant_type="nf4", dtype=self.scale.dtype
        )
        return bnb.dequantize_4bit(self.packed, state).to(self.like)

    def forward(self, x: Tensor) -> Tensor:
        """(..., out) of (..., in)."""
        return nn.functional.linear(x, self.weight, self.bias)


def how_to_load(quantization: str, device: str) -> dict[str, Any]:
    """Arguments of `from_pretrained` that round the weights while they are read.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    from transformers import BitsAndBytesConfig

    try:
        version("bitsandbytes")
    except PackageNotFoundError as error:
        raise MissingExtraError(
            f"model.quantization={quantization} needs an extra: pip install 'tiny-ablation[quantization]'"
        ) from error
    asked = BitsAndBytesConfig(
        load_in_4bit=quantization == "4bit", load_in_8bit=quantization == "8bit", bnb_4bit_quant_type="nf4"
    )
    return {"quantization_config": asked, "device_map": {"": device}}


def keep_packed(hf: Any) -> None:
    """Put a `PackedLinear` in the place of every layer of bitsandbytes, in a model that was loaded by `how_to_load`."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    for name, module in list(hf.named_modules()):
        if isinstance(module, Linear4bit | Linear8bitLt):
            hf.set_submodule(name, PackedLinear(module))


def packed_layers(hf: Any) -> Iterator[tuple[str, PackedLinear]]:
    """The packed layers of a model, by name."""
    return ((name, module) for name, module in hf.named_modules() if isinstance(module, PackedLinear))
