"""The command line in processes forked from one that has imported the libraries already.

Three quarters of a short run are imports, which write nothing: a kill there shows little and costs seconds. What is forked runs
`tiny_ablation.cli.main` with the same arguments as the command would. One process at a time.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_LIBRARIES = (
    "tiny_ablation.app",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "torch",
    "transformers.models.llama.modeling_llama",
    "transformers.modeling_gguf_pytorch_utils",
    "transformers.models.auto.modeling_auto",
    "gguf",
    "transformer_lens.model_bridge",
    "sae_lens",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "jinja2",
    "rich.progress",
)


class Forked:
    """One such process; as much of `subprocess.Popen` as the harness uses.

    Attributes:
        pid: of the process.
        returncode: how it ended; None while it runs.
    """

    def __init__(self, zygote: "Zygote", args: Sequence[str], place: Path, env: Mapping[str, str], prelude: str) -> None:
        self._zygote, self._out, self._err = zygote, place / ".stdout", place / ".stderr"
        request = {"args": list(args), "cwd": str(place), "env": dict(env), "prelude": prelude}
        self.pid = zygote.ask(request)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended; None while it runs."""
        if self.returncode is None:
            self.returncode = self._zygote.ended()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it printed."""
        deadline = time.monotonic() + (timeout or 1e9)
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("tiny-ablate", timeout or 0)
            time.sleep(0.01)
        return self._out.read_text(), self._err.read_text()

    def send_signal(self, number: int) -> None:
        """Send a signal to it alone."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Zygote:
    """The process that forks them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._said.get(timeout=300) == "ready"

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.strip())

    def ask(self, request: dict) -> int:
        """Fork one process; returns its id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._said.get(timeout=60))

    def ended(self) -> int | None:
        """The exit code of the last one, as `subprocess` gives it; None while it runs."""
        try:
            return int(self._said.get_nowait())
        except queue.Empty:
            return None

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def _serve() -> None:
    """Fork a process for every line of standard input, and say how it ended."""
    import importlib
    import pkgutil

    import tiny_ablation

    for name in _LIBRARIES:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(tiny_ablation.__path__, "tiny_ablation."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _be(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


def _be(request: dict) -> None:
    """Become the command."""
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, name in ((1, ".stdout"), (2, ".stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["tiny-ablate"]
    code = 1
    try:
        exec(request["prelude"], {})
        from tiny_ablation.cli import main

        code = main(request["args"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
