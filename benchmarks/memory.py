"""Peak memory of one way, measured in a process of its own: `python -m benchmarks.memory WAY ABLATION FAMILY N`."""

import json
import subprocess
import sys
import threading
import time
from types import TracebackType

import psutil
import torch

from benchmarks.prompts import load, make_job
from benchmarks.ways import WAYS

MOST = 9  # items: as many as one pass takes of a layer; memory does not grow with them


class Peak:
    """Samples this process's resident memory every few milliseconds."""

    def __init__(self) -> None:
        self.bytes, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        process = psutil.Process()
        while not self._over.is_set():
            self.bytes = max(self.bytes, process.memory_info().rss)
            time.sleep(0.003)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: "type[BaseException] | BaseException | TracebackType | None") -> None:
        self._over.set()
        self._thread.join()


def peak_memory(way: str, kind: str, family: str, n: int) -> dict[str, int]:
    """Bytes: `model` (loaded, every weight touched) and `peak` while the way runs."""
    call = [sys.executable, "-m", "benchmarks.memory", way, kind, family, str(n)]
    out = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.splitlines()[-1])


def _main(way: str, kind: str, family: str, n: int) -> None:
    torch.set_num_threads(2)
    network = load()
    job = make_job(network, kind, family, n, [0])
    with torch.inference_mode():  # both forms of the model run once, so that what they set up is theirs
        network.hf(input_ids=torch.tensor([job.prompts[0].ids]))
        network.bridge(torch.tensor([job.prompts[0].ids]))
    before = psutil.Process().memory_info().rss
    items = job.timed[:MOST] if way.startswith("engine") else job.looped[:2]  # loops take one item a forward
    with Peak() as peak:
        WAYS[way](network, job, items)
    print(json.dumps({"model": before, "peak": max(peak.bytes, before)}))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
