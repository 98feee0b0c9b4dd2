"""The model that verification computes with, read from its files once more, and whether the run's model was the same.

Nothing of the run's model is used again: neither its weights in memory, nor its buffers, nor its attention. So weights that
were read wrongly, changed or rounded are found, and named.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tiny_ablation.config.schema import DType, VerifyMode
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.errors import DeviceError, is_out_of_memory
from tiny_ablation.models.loader import load_plain
from tiny_ablation.models.placed import is_placed, numbers
from tiny_ablation.models.quantized import PackedLinear, packed_layers

if TYPE_CHECKING:
    from torch import Tensor

    from tiny_ablation.run.prepare import PreparedRun

_SPARE = 0.8  # of the memory that is free, for a second copy of the weights
_NAMED = 2  # tensors that a message names


class Plain(NamedTuple):
    """The bare models: the run's, and the second one of a run that has two."""

    models: Mapping[int, Bare]  # read anew, on the CPU, by the `id` of the network that each judges
    dtype: DType  # the precision that they compute in, the lower one of two
    rounded: list[str]  # in words, what the run's models hold in a lower precision than transformers does
    other: list[str]  # in words, what else differs between the run's models and the files


def read_plain(prepared: "PreparedRun", mode: VerifyMode) -> Plain:
    """Read the run's models anew, compare each with its own, and widen the new ones to the precision of the reference.

    Double precision gives way to single where a model does not compute in it or memory is short.

    Raises:
        DeviceError: memory is short for a second copy of the weights.
        ModelError: the files are not there any more, or no longer a model.
    """
    spec = prepared.spec
    wanted = _affordable(prepared, DType.float64 if mode is VerifyMode.float64 else DType.float32)
    models, rounded, other = {}, [], []
    for cfg, network in zip(spec.models, prepared.networks, strict=True):
        dtype, on_disk = spec.settings.root.device.dtype.value, is_placed(network.hf)
        fresh = load_plain(cfg, dtype=dtype, weights=network.model.weights_hash, on_disk=on_disk)
        for kind, words in _differences(network.hf, fresh):
            told = f"{words} ({network.model.name})" if prepared.other else words
            (rounded if kind == "rounded" else other).append(told)
        try:
            models[id(network)] = _widened(fresh, wanted)
        except (RuntimeError, NotImplementedError) as error:  # an operation that exists in single precision only
            if wanted is not DType.float64 or is_out_of_memory(error):
                raise
            wanted = DType.float32
            models[id(network)] = _widened(fresh, wanted)
    return Plain(models, wanted, _listed(rounded), _listed(other))


def _affordable(prepared: "PreparedRun", wanted: DType) -> DType:
    """The precision for which memory suffices."""
    import psutil

    numbers = 0
    for network in prepared.networks:
        if not is_placed(network.hf):  # what is on disk is read from there, and widened as it is
            numbers += sum(p.numel() for p in network.hf.parameters())
            numbers += sum(math.prod(each.shape) for _, each in packed_layers(network.hf))
    free = psutil.virtual_memory().available * _SPARE
    if wanted is DType.float64 and 8 * numbers > free:
        wanted = DType.float32
    if wanted is DType.float32 and 4 * numbers > free:
        raise DeviceError(
            f"a second copy of the weights takes {4 * numbers / 1e9:.1f} GB, and {free / 1e9:.1f} GB are to be had"
        )
    return wanted


def _widened(hf: Any, dtype: DType) -> Bare:
    import torch

    for tensor in filter(torch.is_floating_point, (*hf.parameters(), *hf.buffers())):
        tensor.data = tensor.data.to(getattr(torch, dtype.value))
    return Bare(hf)


def _listed(found: list[str]) -> list[str]:
    return found if len(found) <= _NAMED else [*found[:_NAMED], f"... ({len(found)} tensors in all)"]


def _differences(ours: Any, fresh: Any) -> Iterator[tuple[str, str]]:
    """(`rounded` or `other`, what is wrong) for each tensor of the run's model that is not as transformers loads it."""
    mine, theirs, on_disk = dict(_tensors(ours)), dict(_tensors(fresh)), is_placed(ours)
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in mine or name not in theirs:
            yield "other", f"{name} is in the {'run' if name in mine else 'files'} only"
        elif on_disk and _print(mine[name]()) == _print(theirs[name]()):
            continue  # without both in memory at once
        elif (words := _difference(mine[name](), theirs[name]())) is not None:
            yield words[0], f"{name} {words[1]}"


def _tensors(hf: Any) -> "Iterator[tuple[str, Callable[[], Tensor]]]":
    """Weights and buffers by name, each read when it is asked for, but for the buffers that a pass rewrites."""
    for prefix, module in hf.named_modules():
        if isinstance(module, PackedLinear):
            yield f"{prefix}.weight", lambda layer=module: layer.weight
        for name, _ in module.named_parameters(recurse=False):
            yield f"{prefix}.{name}".lstrip("."), partial(numbers, module, name)
        if isinstance(module, PackedLinear):
            continue
        kinds = getattr(module, "rope_type", "default")
        rewritten = set(kinds.values() if isinstance(kinds, dict) else [kinds]) & {"dynamic", "longrope"}
        for name, buffer in module.named_buffers(prefix, recurse=False):
            if not rewritten or not name.endswith("inv_freq") or name.endswith("original_inv_freq"):
                yield name, lambda buffer=buffer: buffer


def _print(tensor: "Tensor") -> tuple[Any, ...]:
    import torch

    numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return tensor.dtype, tensor.shape, hashlib.sha256(numbers.data).digest()


def _difference(ours: "Tensor", fresh: "Tensor") -> tuple[str, str] | None:
    import torch

    if ours.shape != fresh.shape:
        return "other", f"has the shape {list(ours.shape)} and in the files {list(fresh.shape)}"
    if ours.dtype != fresh.dtype:
        both = [str(t.dtype).removeprefix("torch.") for t in (ours, fresh)]
        narrower = torch.finfo(ours.dtype).eps > torch.finfo(fresh.dtype).eps if ours.is_floating_point() else False
        return ("rounded" if narrower else "other", f"is {both[0]} in the run, and transformers loads it as {both[1]}")
    if torch.equal(ours.cpu(), fresh):
        return None
    off = float((ours.cpu().double() - fresh.double()).abs().max())
    low = torch.equal(ours.cpu(), fresh.bfloat16().to(fresh.dtype)) or torch.equal(ours.cpu(), fresh.half().to(fresh.dtype))
    return "rounded" if low else "other", f"is not what transformers loads, by up to {off:.1e}"
