"""Where a run's time, memory and power went, stage by stage; the content of `metrics/profile.json`.

Memory and power are sampled in a thread that waits at least a hundred times as long as a sample took, so its cost is bounded on
any machine. GPU figures come from NVML where `pynvml` is installed and there is a GPU; power of a Mac from `powermetrics`, only
when asked for.
"""

import _thread
import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tiny_ablation.store.runlog import log

_EVERY = 0.2  # seconds between samples, at least
_SHARE = 0.01  # of a processor that sampling may cost
_POWER = re.compile(r"Combined Power[^:]*:\s*(\d+)\s*mW")
_POWERMETRICS = ("sudo", "-n", "powermetrics", "--samplers", "cpu_power", "-i", "1000")


class Sampler:
    """Samples from `start` to `stop`; `take` gives what was seen since it was last called."""

    def __init__(self, *, power: bool = False) -> None:
        self.problem: str | None = None
        self._power = power
        self._most: dict[str, float] = {}
        self._watts: list[float] = []
        self._lock, self._done = threading.Lock(), threading.Event()
        self._ended: threading.Event | None = None
        self._meter: subprocess.Popen[str] | None = None
        self._cost = self._samples = 0.0

    def start(self) -> None:
        """Begin; a daemon thread, so that it never keeps a process alive."""
        probes = [_memory_probe(), *_gpu_probe()]
        if self._power:
            self._start_meter()
        ended = threading.Event()
        # Not `threading.Thread`, whose `start` waits for the thread for ever where it has no memory to begin with.
        with contextlib.suppress(RuntimeError, MemoryError):
            _thread.start_new_thread(self._run, (probes, ended))
            self._ended = ended

    def stop(self) -> None:
        """End; may be called twice."""
        self._done.set()
        if self._meter is not None:
            self._meter.terminate()
        if self._ended is not None:
            self._ended.wait(timeout=2.0)

    def take(self) -> dict[str, float]:
        """The largest values since the last call, and the mean power: `rss_peak_bytes`, `gpu_bytes`, `gpu_watts`, `watts`."""
        with self._lock:
            found, self._most = self._most, {}
            watts, self._watts = self._watts, []
        return {**found, **({"watts": sum(watts) / len(watts)} if watts else {})}

    def cost(self) -> dict[str, float]:
        """What sampling cost: how often, and its processor seconds."""
        return {"samples": int(self._samples), "cpu_s": self._cost}

    def _run(self, probes: list[Callable[[], dict[str, float]]], ended: threading.Event) -> None:
        with contextlib.suppress(MemoryError):  # what was seen until then is kept
            while not self._done.is_set():
                before = time.thread_time()
                for probe in probes:
                    values = probe()
                    with self._lock:
                        for name, value in values.items():
                            self._most[name] = max(value, self._most.get(name, value))
                spent = time.thread_time() - before
                self._cost += spent
                self._samples += 1
                self._done.wait(max(_EVERY, spent / _SHARE))
        ended.set()

    def _start_meter(self) -> None:
        if sys.platform != "darwin":
            self.problem = "profile.power=true: there is no powermetrics on this system, so power is not recorded"
            return
        with contextlib.suppress(OSError):
            self._meter = subprocess.Popen(
                _POWERMETRICS, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True
            )
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that is allowed goes on
                self._meter.wait(0.5)
        if self._meter is None or self._meter.poll() is not None:
            self._meter = None
            self.problem = (
                "profile.power=true: powermetrics needs sudo without a password (say `sudo -v` first), so power is not recorded"
            )
            return
        threading.Thread(target=self._read_meter, name="power", daemon=True).start()

    def _read_meter(self) -> None:
        assert self._meter is not None
        assert self._meter.stdout is not None
        for line in self._meter.stdout:
            if match := _POWER.search(line):
                with self._lock:
                    self._watts.append(int(match[1]) / 1000)


def _memory_probe() -> Callable[[], dict[str, float]]:
    import psutil

    process = psutil.Process()
    return lambda: {"rss_peak_bytes": process.memory_info().rss}


def _gpu_probe() -> list[Callable[[], dict[str, float]]]:
    """One probe of all GPUs together; none where there is no NVML or no GPU."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # NVML has many ways to say that there is no GPU, and none may stop a run
        return []

    def probe() -> dict[str, float]:
        found = {"gpu_bytes": float(sum(pynvml.nvmlDeviceGetMemoryInfo(h).used for h in handles))}
        with contextlib.suppress(Exception):  # not every GPU tells its power
            found["gpu_watts"] = sum(pynvml.nvmlDeviceGetPowerUsage(h) for h in handles) / 1000
        return found

    return [probe] if handles else []


@dataclass
class Profile:
    """Stages in the order they were entered; entering one twice adds up."""

    sampler: Sampler = field(default_factory=Sampler)  # measures memory, GPU and power while stages run
    meter: Callable[[], int] = lambda: 0  # says how many tokens have gone into forward passes so far
    # for each stage its wall and CPU seconds, the process's memory at its end and its most, bytes; of GPUs and power what the
    # machine tells; `tokens` that went into forward passes, and their rate, where there were any
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
        import psutil

        self.sampler.take()  # what was seen before belongs to no stage
        wall, cpu, tokens = time.perf_counter(), time.process_time(), self.meter()
        try:
            yield
        finally:
            entry = self.stages.setdefault(name, {"wall_s": 0.0, "cpu_s": 0.0, "rss_bytes": 0})
            entry["wall_s"] += time.perf_counter() - wall
            entry["cpu_s"] += time.process_time() - cpu
            entry["rss_bytes"] = psutil.Process().memory_info().rss
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


def peak_memory() -> int | None:
    """The most memory this process ever held, bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
