"""Models that are larger than a device: accelerate places their blocks on GPUs, then in memory, then on disk.

What does not fit on the first device is read for each pass, one module at a time, and released after it. In between its
parameters hold no numbers: code that reads weights calls `numbers`, and code that needs precision or device `weight_like`.
"""

import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tiny_ablation.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

DISK = {"": "disk"}


class Placement(NamedTuple):
    """How a model is spread over devices."""

    # How much of the weights goes where, such as `((0, "20GB"), ("cpu", "8GB"))`; the rest stays on disk. None: what is free.
    memory: tuple[tuple[int | str, str | None], ...]
    device: str  # the kind of device to begin with


def placement(cfg: Any, device: str) -> Placement | None:
    """What the config group `device` asks for on the resolved torch device; None if the model goes to one device.

    Raises:
        ConfigError: a memory without a map, or on the wrong device.
    """
    asked = {"cpu_memory": cfg.cpu_memory, "gpu_memory": cfg.gpu_memory}
    if cfg.map is None:
        if given := [name for name, value in asked.items() if value is not None]:
            raise ConfigError(f"device.{given[0]} says how device.map=auto spreads a model; add that")
        return None
    if device == "mps":
        raise ConfigError("device.map=auto: mps shares the machine's memory; use device=cpu, which can keep weights on disk")
    import torch

    gpus = range(torch.cuda.device_count()) if device.startswith("cuda") else ()
    return Placement((*((gpu, cfg.gpu_memory) for gpu in gpus), ("cpu", cfg.cpu_memory)), device)


def how_to_load(placed: Placement | None) -> dict[str, Any]:
    """Arguments of `from_pretrained` that spread a model; without a placement, that leave all of it on disk.

    Raises:
        ConfigError: a memory is not a size.
    """
    from accelerate.utils import convert_file_size_to_int, get_max_memory

    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # it says what `where` does
    folder = {"offload_folder": tempfile.mkdtemp(prefix="tiny-ablate-")}
    if placed is None:
        return {"device_map": DISK, **folder}
    free, memory = get_max_memory(), {}
    for place, given in placed.memory:
        try:
            memory[place] = free[place] if given is None else convert_file_size_to_int(given)
        except ValueError as error:
            raise ConfigError(f"device: {given!r} is no size of memory; such as 8GB or 500MB") from error
    return {"device_map": "auto", "max_memory": memory, **folder}


def settle(hf: Any, folder: str) -> None:
    """Put a spread model in its final state; what was written for it to `folder` goes with it."""
    weakref.finalize(hf, shutil.rmtree, folder, ignore_errors=True)
    hf.eval()
    for parameter in hf.parameters():
        parameter.requires_grad_(False)


def is_placed(hf: Any) -> bool:
    """Whether the model is spread over devices, or on disk."""
    places = {*(getattr(hf, "hf_device_map", None) or {}).values()}
    return len(places) > 1 or "disk" in places


def weight_like(hf: Any) -> "Tensor":
    """A tensor of any shape with the precision of a model's weights, on the device where its inputs go."""
    weight = next(hf.parameters())
    if not weight.is_meta:
        return weight
    import torch

    places = [place for place in hf.hf_device_map.values() if place not in ("cpu", "disk")]
    return torch.empty(0, dtype=weight.dtype, device=places[0] if places else "cpu")


def numbers(module: "nn.Module", name: str = "weight") -> "Tensor":
    """A parameter of a module with its numbers, which are read if they are not in memory."""
    tensor: Any = getattr(module, name)
    if not tensor.is_meta:
        return tensor
    hook: Any = module._hf_hook
    return hook.weights_map[name]


@contextmanager
def computing(module: "nn.Module", forward: Any) -> Iterator[None]:
    """Within: a module computes `forward`; afterwards what it did before, which may read its weights from elsewhere."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def where(hf: Any) -> str:
    """How much of the weights is on which device, such as `0.1 GB cpu, 2.3 GB disk`."""
    sizes: dict[str, int] = {}
    for name, parameter in hf.named_parameters():
        part = max((p for p in hf.hf_device_map if f"{name}.".startswith(f"{p}." if p else "")), key=len)
        place = str(hf.hf_device_map[part])
        sizes[place] = sizes.get(place, 0) + parameter.nbytes
    return ", ".join(f"{size / 1e9:.3g} GB {place}" for place, size in sorted(sizes.items()))
