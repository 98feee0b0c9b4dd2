"""Where a run's time and memory went, stage by stage; the content of `metrics/profile.json`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tiny_ablation.store.runlog import log
from tiny_ablation.store.sampler import Sampler


@dataclass
class Profile:
    """Stages in the order they were entered; entering one twice adds up.

    Attributes:
        sampler: measures memory, GPU and power while stages run.
        meter: says how many tokens have gone into forward passes so far.
        stages: for each stage its wall and CPU seconds, the process's memory at its end and its most, bytes; of GPUs and
            power what the machine tells; `tokens` that went into forward passes, and their rate, where there were any.
    """

    sampler: Sampler = field(default_factory=Sampler)
    meter: Callable[[], int] = lambda: 0
    stages: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample while the body runs."""
        self.sampler.start()
        try:
            yield
        finally:
            self.sampler.stop()

    @contextmanager
    def stage(self, name: str, *, quiet: bool = False) -> Iterator[None]:
        """Measure what happens within; its end goes to the log of the run, unless `quiet`."""
        self.sampler.take()  # what was seen before belongs to no stage
        wall, cpu, tokens = time.perf_counter(), time.process_time(), self.meter()
        try:
            yield
        finally:
            entry = self.stages.setdefault(name, {"wall_s": 0.0, "cpu_s": 0.0, "rss_bytes": 0})
            entry["wall_s"] += time.perf_counter() - wall
            entry["cpu_s"] += time.process_time() - cpu
            entry["rss_bytes"] = _memory()
            for key, value in self.sampler.take().items():
                entry[key] = max(value, entry.get(key, value))
            entry["rss_peak_bytes"] = max(entry["rss_bytes"], entry.get("rss_peak_bytes", 0))
            if pushed := self.meter() - tokens:
                self.count(name, tokens=entry.get("tokens", 0) + pushed)
        if not quiet:
            log.info("%s: %.1f s, %.0f MB", name, entry["wall_s"], entry["rss_bytes"] / 1e6)

    def count(self, name: str, **counts: float) -> None:
        """Say how much a finished stage worked through, such as `prompt_tokens`; its rate per second is added."""
        entry = self.stages[name]
        for what, number in counts.items():
            entry[what] = number
            entry[f"{what}_per_s"] = round(number / max(entry["wall_s"], 1e-9), 1)

    def content(self) -> dict[str, Any]:
        """What is written down."""
        return {"stages": self.stages, "peak_rss_bytes": peak_memory(), "sampling": self.sampler.cost()}


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
