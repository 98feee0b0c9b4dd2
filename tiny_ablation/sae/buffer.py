"""Activations on disk: computed once, read again in every epoch, so that memory does not grow with the amount of text."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.seeds import generator
from tiny_ablation.errors import GuardError, ResultsError
from tiny_ablation.sae.site import Site, read_activations
from tiny_ablation.store.checksummed_json import read_sealed, write_sealed

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from tiny_ablation.models.network import Network


# Tokens whose activation is this many times as long as the median are attention sinks at any position. A few of them in ten
# thousand tokens would be most of the variance.
SINK = 10.0


@dataclass(frozen=True)
class Buffer:
    """Activations of many tokens."""

    values: "np.ndarray"  # (n, width) float32, mapped from a file
    is_sink: "np.ndarray"  # (n,) which rows are attention sinks

    def batches(self, size: int, seed: int, start: int) -> "Iterator[Tensor]":
        """Endless batches of `size` activations from step `start` on; the seed draws the order of each epoch."""
        import numpy as np
        import torch

        size = min(size, len(self.values))
        per_epoch, step, epoch = len(self.values) // size, start, -1
        order = np.empty(0, dtype=np.int64)
        while True:
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = generator(seed, "sae", "epoch", epoch).permutation(len(self.values))
            first = step % per_epoch * size
            # In the order of the file, which a disk likes; within a batch the order means nothing.
            yield torch.from_numpy(self.values[np.sort(order[first : first + size])])
            step += 1

    def sample(self, n: int, seed: int) -> "Tensor":
        """(at most n, width): rows drawn at random that are no sinks, for the mean and the size of activations."""
        import numpy as np
        import torch

        rows = generator(seed, "sae", "scale").permutation(np.flatnonzero(~self.is_sink))[:n]
        return torch.from_numpy(self.values[np.sort(rows)])

    def sinks(self) -> "Tensor":
        """(m, width): the attention sinks, of which there may be none."""
        import torch

        return torch.from_numpy(self.values[self.is_sink])


def fill_buffer(
    network: "Network", site: Site, contexts: "np.ndarray", path: Path, *, batch_tokens: int, tick: Callable[[int], object]
) -> Buffer:
    """Compute the activations of all tokens of (n, context) but the first of each context, into the file `path`.

    Resumes where a killed process stopped; `tick` is called with the number of tokens done.

    Raises:
        GuardError: an activation is NaN or infinite.
    """
    import numpy as np
    import torch

    count, width = contexts.shape[1] - 1, site.width(network.shape)
    progress = path.with_suffix(".json")
    _reserve(path, 4 * len(contexts) * count * width)
    values = np.memmap(path, dtype=np.float32, mode="r+", shape=(len(contexts), count, width))
    done, content = _kept(values, progress)
    tick(done * count)
    for part in read_activations(network, site, torch.from_numpy(contexts[done:]).long(), batch_tokens):
        if not torch.isfinite(part).all():
            raise GuardError(f"sae: the activations at {site.hook_name} hold NaN or infinity")
        values[done : done + len(part)] = part.float().cpu().numpy()
        content.update(values[done : done + len(part)])
        done += len(part)
        tick(done * count)
        values.flush()
        write_sealed(progress, {"contexts": done, "sha256": content.hexdigest()})
    return with_sinks(values.reshape(-1, width))


def _reserve(path: Path, size: int) -> None:
    """Have the whole file on the disk before it is mapped: a disk that fills up later would kill the process without a word.

    Raises:
        OSError: there is no room.
    """
    with path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _kept(values: "np.ndarray", progress: Path) -> tuple[int, Any]:
    """How many contexts a killed process finished, and the running checksum of their activations; 0 where they are damaged."""
    if progress.is_file():
        try:
            known = read_sealed(progress)
        except ResultsError:
            return 0, hashlib.sha256()
        content = hashlib.sha256(values[: known["contexts"]].data)
        if content.hexdigest() == known["sha256"]:
            return known["contexts"], content
    return 0, hashlib.sha256()


def with_sinks(values: "np.ndarray") -> Buffer:
    """A buffer of (n, width) activations that knows which of them are attention sinks."""
    import numpy as np

    norms = np.concatenate([np.linalg.norm(values[i : i + 65536], axis=1) for i in range(0, len(values), 65536)])
    return Buffer(values, norms > SINK * float(np.median(norms)))
