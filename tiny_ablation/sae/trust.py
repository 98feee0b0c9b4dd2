"""PyTorch's own file format is a pickle; SAELens reads it in two places, and neither may run code."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_FORCE, _ALLOW = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def weights_only() -> Iterator[None]:
    """Whatever `torch.load` is called with in the block, it reads tensors and plain values, and refuses anything else."""
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _ALLOW)}
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        del os.environ[_FORCE]
        os.environ.update({name: value for name, value in before.items() if value is not None})
