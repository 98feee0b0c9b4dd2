"""How long the stages of a training took, over all the processes that worked at it."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiny_ablation.errors import ResultsError
from tiny_ablation.store.checksummed_json import read_sealed, write_sealed


class Clock:
    """Seconds of each stage, summed over all attempts; kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.stages: dict[str, float] = _times(path)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens within."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = round(self.stages.get(name, 0.0) + time.perf_counter() - started, 1)
            with contextlib.suppress(ResultsError):  # on a full disk, what happens within tells better
                write_sealed(self._path, self.stages)


def _times(path: Path) -> dict[str, float]:
    """What earlier attempts took; nothing where that is damaged, since no result depends on it."""
    try:
        return read_sealed(path)
    except ResultsError:
        return {}
