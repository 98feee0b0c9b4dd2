"""How the engine's time grows: `python -m benchmarks.growth` measures, fits, and draws outputs/bench/growth.png.

One thing is varied at a time, every head zeroed one by one, on random weights in the shape of Llama and prompts that share no
prefix. `t = c * x ** p` is fitted to the upper half of each curve, where what is constant no longer counts. A sweep's cells
are conditions of the whole command line, in one process, without its start.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

from benchmarks.jobs import LOGIT_DIFF
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.cli import main as tiny_ablate
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import Network, build_network

VOCABULARY = 1024
BASE = {"examples": 32, "layers": 8, "heads": 8, "tokens": 16}
STEPS = {
    "examples": (16, 32, 64, 128, 256),
    "layers": (2, 4, 8, 16, 32),
    "heads": (2, 4, 8, 16, 32),
    "tokens": (8, 16, 32, 64, 128),
    "conditions": (1, 2, 4, 8),
}
# What arithmetic expects of each: a head more is one run more, and a layer more is as many runs more that are longer as well.
EXPECTED = {"examples": 1, "layers": 2, "heads": 1, "tokens": 1, "conditions": 1}
WIDTH = 256


def model(layers: int, heads: int) -> Network:
    """Random weights; heads share one width of the residual stream, so that more of them are smaller ones."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from tiny_ablation.models.sources.toy import toy_llama

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=3 * WIDTH,
        vocab_size=VOCABULARY,
        max_position_embeddings=512,
    )
    config._attn_implementation = "sdpa"
    hf = LlamaForCausalLM(config).eval().requires_grad_(False)
    return build_network(LoadedModel("random", hf, toy_llama()[1], (), f"random:{layers},{heads}", {}))


def prompts(examples: int, tokens: int) -> list[Prompt]:
    """Random tokens, each prompt with a first token of its own."""
    draw = np.random.default_rng(0)
    ids = draw.integers(0, VOCABULARY, (examples, tokens))
    ids[:, 0] = draw.permutation(VOCABULARY)[:examples]
    return [Prompt(tuple(row.tolist()), (1,), (2,), {}, str(i)) for i, row in enumerate(ids)]


def all_heads(examples: int, layers: int, heads: int, tokens: int) -> Callable[[], None]:
    """Zeroing every head of such a model, ready to be timed."""
    network = model(layers, heads)
    plan = [Intervention((Edit("z", layer, head, Scale(0.0), "all"),)) for layer in range(layers) for head in range(heads)]
    run = Executor(network, prompts(examples, tokens), plan, LOGIT_DIFF)

    def call() -> None:
        for _ in run:
            pass

    return call


def sweep_of(conditions: int) -> Callable[[], None]:
    """A sweep of so many cells of the toy model."""

    def call() -> None:
        names = ",".join(("facts", "ioi", "sva", "negation", "logic", "pronoun", "counterfactual", "induction")[:conditions])
        with tempfile.TemporaryDirectory() as place, Path(os.devnull).open("w") as nowhere:
            args = [
                "-m",
                "model=toy",
                f"dataset={names}",
                "dataset.n_examples=24",
                "tracking=off",
                "verify=off",
                "stats.n_boot=200",
                "stats.n_perm=200",
                "hydra/launcher=basic",
                f"hydra.sweep.dir={place}/sweep",
            ]
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                code = tiny_ablate(args)
        if code:
            raise SystemExit(f"{' '.join(args)} ended with code {code}")

    return call


def measure(rounds: int) -> dict[str, dict[str, Any]]:
    """For each thing that is varied its steps, the median seconds, and the fitted power."""
    out: dict[str, dict[str, Any]] = {}
    for name, steps in STEPS.items():
        seconds = []
        for step in steps:
            call = sweep_of(step) if name == "conditions" else all_heads(**{**BASE, name: step})
            call()  # whatever is set up at the first call
            seconds.append(statistics.median(_timed(call) for _ in range(rounds)))
        power = fitted(steps, seconds)
        out[name] = {"steps": list(steps), "seconds": seconds, "power": power, "expected": EXPECTED[name]}
        print(
            f"{name:12} t ~ x^{power:.2f} (arithmetic: {EXPECTED[name]}); " + ", ".join(f"{s:.3g} s" for s in seconds),
            flush=True,
        )
    return out


def fitted(steps: "tuple[int, ...]", seconds: "list[float]") -> float:
    """The power of the upper half of a curve, by least squares of logarithms."""
    half = len(steps) // 2
    return float(np.polyfit(np.log(steps[half:]), np.log(seconds[half:]), 1)[0])


def _timed(call: Callable[[], None]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def draw(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A panel for each thing, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, panels = plt.subplots(1, len(found), figsize=(2.6 * len(found), 2.9), constrained_layout=True)
    for axes, (name, curve) in zip(panels, found.items(), strict=True):
        steps, seconds = np.array(curve["steps"], float), np.array(curve["seconds"])
        axes.loglog(steps, seconds, "o-", color="#0072b2", markersize=4)
        guide = seconds[-1] * (steps / steps[-1]) ** curve["power"]
        axes.loglog(steps, guide, ":", color="#6b7280")
        axes.set_xticks(curve["steps"], labels=[str(step) for step in curve["steps"]])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(name)
        axes.set_title(f"time ~ {name}$^{{{curve['power']:.2f}}}$", fontsize=10)
        axes.grid(color="#d1d5db", linewidth=0.5)
    panels[0].set_ylabel("seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = measure(given.rounds)
    draw(found, given.out / "growth.png")
    (given.out / "growth.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
