"""Device and precision of a model, as `from_pretrained(dtype=...)` leaves them.

Parameters and the buffers that are stored with them take the precision of the run. Buffers that the model computes for itself
when it is made (`persistent=False`: the frequencies of rotary embeddings, ALiBi slopes) keep theirs: a frequency that is
rounded to bfloat16 turns the thousandth token by an angle that is wrong by whole degrees.
"""

from collections.abc import Iterator
from typing import Any


def convert(module: Any, *, device: str, dtype: str | None = None) -> None:
    """Put a module on `device` and in `dtype`, in place.

    Args:
        module: a torch module.
        device: a torch device.
        dtype: the name of a torch floating-point type, for the tensors that follow the model's precision; None leaves all as
            they are (some architectures keep their routers in float32).
    """
    import torch

    target = None if dtype is None else getattr(torch, dtype)
    computed = {id(tensor) for tensor in _computed_buffers(module)}
    for tensor in (*module.parameters(), *module.buffers()):
        follows = tensor.is_floating_point() and id(tensor) not in computed
        tensor.data = tensor.data.to(device, target if follows and target else tensor.dtype)


def _computed_buffers(module: Any) -> Iterator[Any]:
    for part in module.modules():
        for name in part._non_persistent_buffers_set:
            if part._buffers[name] is not None:
                yield part._buffers[name]
