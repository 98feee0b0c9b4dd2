"""Matrix products by oneDNN, which on many processors are twice as fast as PyTorch's default.

PyTorch leaves float32 products on a CPU to MKL, which uses AVX-512 on Intel's processors only; oneDNN, which PyTorch ships
too, uses it wherever the processor has it. Measured on one core of an AMD Zen 5, with the matrices of the default model: 250
against 108 GFLOP/s. Both sum in float32, in different orders, and a row's result does not depend on the number of rows.

oneDNN needs weights in an order of its own, so this costs a second copy of them, up to `PACKED_BYTES`; weights beyond that are
reordered at each product, which takes a twentieth of its time. With gradients, other precisions or other devices the modules
stay as they are.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tiny_ablation.models.placed import is_placed

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network

PACKED_BYTES = 640 * 2**20
# oneDNN keeps .4 MB of code for each shape that it meets, for 1,024 shapes by default; every batch brings new shapes, so that
# these would add up to .4 GiB. Read when oneDNN computes for the first time.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
# The order of the weights hardly depends on the number of rows that it is asked for.
ROWS = 256


class FastProducts:
    """The products of one network; packed at their first use."""

    def __init__(self, network: "Network") -> None:
        # Not the network itself: `fast_products` must not keep the model that it is asked for.
        self._unembed, self._blocks = network.unembed, network.blocks
        self._products: dict[nn.Module, _Packed] | None = None
        self._checked = True

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within: the model's linear modules take the fast product, where there is one."""
        usable = not torch.is_grad_enabled() and _is_plain(self._unembed.weight)
        products = self._all() if usable else {}
        for module, product in products.items():
            module.forward = product
        try:
            yield
        finally:
            for module in products:
                del module.forward

    def doubt(self) -> None:
        """Compare the packed weights with the model's before their next use: `tensor.data` is written to without a trace."""
        self._checked = False

    def _all(self) -> "dict[nn.Module, _Packed]":
        if self._products is None:
            packed_products: dict[nn.Module, _Packed] = {}
            modules = [self._unembed, *(module for block in reversed(self._blocks) for module in block.modules())]
            left = PACKED_BYTES
            # Packed in the order in which a sweep uses them most, as far as the budget goes.
            for module in modules if _is_faster() else ():
                weight = matrix(module)
                if weight is None or "forward" in vars(module):
                    continue
                packed = weight.nbytes <= left
                if packed or module is not self._unembed:  # too few rows meet the unembedding to order it for each time
                    left -= weight.nbytes * packed
                    packed_products[module] = _Packed(weight, getattr(module, "bias", None), packed=packed)
            self._products = packed_products  # only now: an error midway, such as no memory, must not leave half of them
        elif not self._checked:
            for product in self._products.values():
                product.check()
        self._checked = True
        return self._products


_of_model: "WeakKeyDictionary[nn.Module, FastProducts]" = WeakKeyDictionary()


def fast_products(network: "Network") -> FastProducts:
    """The products of a model, the same for all that run it, since each packing is a copy of the weights; checked anew."""
    found = _of_model.setdefault(network.hf, FastProducts(network))
    found.doubt()
    return found


def available(network: "Network") -> bool:
    """Whether this machine and build have the fast product for this model, and it computes the same."""
    return _is_plain(network.unembed.weight) and not is_placed(network.hf) and _is_faster()


def _is_plain(weight: Any) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32


@torch.inference_mode(False)  # whose tensors have no version
@torch.no_grad()
def _is_faster() -> bool:
    """Whether this machine and build have the fast product, and it computes the same."""
    # Where MKL uses the widest instructions too, nothing is won.
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    numbers = torch.arange(40 * 24, dtype=torch.float32).sin()
    w, x, bias = numbers.view(40, 24), numbers[: 8 * 24].view(8, 24).cos(), numbers[:40].exp()
    try:
        y = _Packed(w, bias, packed=True)(x)
    except (AttributeError, RuntimeError):  # private operators of PyTorch, which may go or change
        return False
    return torch.allclose(y, nn.functional.linear(x, w, bias), atol=1e-5)


def matrix(module: nn.Module) -> Tensor | None:
    """(out, in) of a module that computes `x @ weight.T + bias` and nothing else; None for any other module."""
    from transformers.pytorch_utils import Conv1D

    weight: Any = getattr(module, "weight", None)
    if type(module) is nn.Linear:
        return weight
    return weight.t() if type(module) is Conv1D else None


class _Packed:
    """`x @ weight.T + bias`, with the weight packed, or as it is."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, packed: bool) -> None:
        self._plain, self._bias, self._is_packed = weight, bias, packed
        self._call: Any = torch.ops.mkldnn._linear_pointwise.default
        self._pack()

    def _pack(self) -> None:
        self._version = self._plain._version
        order = torch.ops.mkldnn._reorder_linear_weight
        self._weight = order(self._plain.contiguous(), ROWS) if self._is_packed else self._plain
        self._print = self._fingerprint()

    def check(self) -> None:
        """Pack again if the weights are not those that were packed."""
        if not torch.equal(self._print, self._fingerprint()):
            self._pack()

    def _fingerprint(self) -> Tensor:
        """(out,) a number for each row that depends on all of its weights; none where the weights are used as they are."""
        if not self._is_packed:
            return self._plain.new_empty(0)
        return self._plain @ torch.arange(1, self._plain.shape[1] + 1, dtype=self._plain.dtype).sin()

    def __call__(self, x: Tensor) -> Tensor:
        if self._plain._version != self._version:  # somebody wrote to the weights
            self._pack()
        return self._call(x, self._weight, self._bias, "none", [], "")
