"""What surrounds the inner loop: `python -m benchmarks.whole` starts the default run as a person does, and times its parts.

In a terminal of its own, since the first progress tick is what a person sees there. The cache is warm: the model was fetched.
"""

import json
import os
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

DEFAULT = ("ablation=heads_zero", "dataset=facts")
# The bar of the interventions, with some done: `heads_zero  ━━━  24/1296`.
_TICK = re.compile(rb"\b[1-9][\d,]*/[1-9][\d,]*\b")


def whole_run(args: Sequence[str] = DEFAULT) -> dict[str, float]:
    """One run of the command line, in a new directory.

    Returns:
        Seconds: `first_tick` (from the start of the process until the bar has moved), `whole` (until it has ended), `loop` (the
        stage of the interventions), `prepare` (configuration, model, data), `rest` (all but the loop), and `loop_share`, the
        loop's part of what comes after preparing.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        control, terminal = pty.openpty()
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "tiny_ablation", *args, "hydra.run.dir=run"],
            cwd=place,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
        )
        os.close(terminal)
        seen, tick = b"", 0.0
        while part := _read(control):
            seen += part
            if not tick and _TICK.search(seen):
                tick = time.perf_counter() - begun
        code, whole = process.wait(), time.perf_counter() - begun
        os.close(control)
        if code or not tick:
            raise SystemExit(f"the default run ended with code {code}:\n{seen.decode(errors='replace')[-2000:]}")
        stages = json.loads((Path(place) / "run/metrics/profile.json").read_text())["stages"]
    loop, prepare = stages["measure"]["wall_s"], stages["prepare"]["wall_s"]
    after = sum(stage["wall_s"] for stage in stages.values()) - prepare
    return {
        "first_tick": tick,
        "whole": whole,
        "loop": loop,
        "prepare": prepare,
        "rest": whole - loop,
        "loop_share": loop / after,
    }


def _read(control: int) -> bytes:
    try:
        return os.read(control, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


def medians(rounds: int, args: Sequence[str] = DEFAULT) -> dict[str, float]:
    """Each figure's median over some runs."""
    found = [whole_run(args) for _ in range(rounds)]
    return {name: statistics.median(run[name] for run in found) for name in found[0]}


if __name__ == "__main__":
    print(json.dumps(medians(5, sys.argv[1:] or DEFAULT), indent=1))
