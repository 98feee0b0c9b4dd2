"""Where a run's time and memory went, stage by stage; the content of `metrics/profile.json`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Profile:
    """Stages in the order they were entered; entering one twice adds up.

    Attributes:
        stages: for each stage its wall and CPU seconds and the process's memory at its end, bytes.
    """

    stages: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens within."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            entry = self.stages.setdefault(name, {"wall_s": 0.0, "cpu_s": 0.0, "rss_bytes": 0})
            entry["wall_s"] += time.perf_counter() - wall
            entry["cpu_s"] += time.process_time() - cpu
            entry["rss_bytes"] = _memory()

    def content(self, **counts: float) -> dict[str, Any]:
        """What is written down, with further counts such as tokens per second."""
        return {"stages": self.stages, "peak_rss_bytes": peak_memory(), **counts}


def _memory() -> int:
    import psutil

    return psutil.Process().memory_info().rss


def peak_memory() -> int | None:
    """The most memory this process ever held, bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
