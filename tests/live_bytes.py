"""Test support: counts the bytes of tensors that are alive, exactly and the same on every run."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Within: what operators of PyTorch made and nobody let go of yet.

    Attributes:
        now: bytes alive.
        peak: the most at any time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {self._storage(leaf)[0] for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf, known)
        return out

    def _count(self, tensor: torch.Tensor, known: set[int]) -> None:
        key, size, owner = self._storage(tensor)
        if key in known or key in self._seen:
            return  # a view, or written in place
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(owner, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size

    @staticmethod
    def _storage(tensor: torch.Tensor) -> tuple[int, int, Any]:
        if tensor.is_mkldnn:  # packed weights have no storage that PyTorch shows
            return id(tensor), tensor.numel() * tensor.element_size(), tensor
        storage = tensor.untyped_storage()
        return storage._cdata, storage.nbytes(), storage
