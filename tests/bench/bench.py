"""How fast single-head ablation is: the Bridge loop, the plain loop and the engine, in one process and in turn.

`make bench` takes about ten minutes on two quiet cores: it zeroes the heads of `--layers` evenly spread layers and scales
what depends on the number of heads up to all of them, for every way. A loop costs the same whichever head is zeroed, so it
gets one head of each of these layers; the engine costs less the later the layer, and the layers are chosen so that the mean
of what is left behind them is that of all layers. What the engine does once a batch is timed by itself and not scaled.
`--full` times all heads every way.

The arithmetic floor takes the fastest matrix product that is at hand: PyTorch's own, or the engine's where that is faster.

Times are of the wall clock. On a busy machine `--cpu-time --threads 1` gives ratios that hardly depend on the load.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor

from tests.bench.floor import multiply_adds, peak_rates, timed
from tests.bench.memory import peak_memory
from tests.bench.ways import WAYS, Heads, Way, executor, load, load_prompts
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.network import Network
from tiny_ablation.results.provenance import git_commit, machine, versions

FAMILIES = ("facts=64", "ioi=64")
# What float32 implementations with other kernels may differ by, per example and in means over examples.
PER_EXAMPLE, MEANS = 2e-4, 5e-5
GIGABYTE = 2**30
# What the engine is held to, `make bench BENCH=--check`.
LEAST_RATIO = {"facts=64": 3.0, "ioi=64": 2.4, "facts=300": 6.0, "ioi=200": 4.0}
MOST_OF_FLOOR = 1.3


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    network = load()
    n_layers = network.shape.n_layers
    layers = range(n_layers) if args.full else spread(n_layers, args.layers)
    heads = [(layer, head) for layer in layers for head in range(network.shape.n_heads)]
    result: dict[str, Any] = _facts(args, heads)
    peaks = [peak_rates(network, clock)]
    for name in args.families:
        prompts = _prompts(network, name)
        print(
            f"\n{name}: {len(prompts)} prompts, {sum(len(p.ids) for p in prompts)} tokens, {len(heads)} heads"
        )
        result["families"][name] = measure(network, prompts, heads, args, clock)
        peaks.append(peak_rates(network, clock))
    best = {product: max(peak[product] for peak in peaks) for product in peaks[0]}
    result["peak_gflops"] = {product: round(rate / 1e9, 1) for product, rate in best.items()}
    for name in args.families:
        _finish(network, result["families"][name], best, name, args)
    _write(result)
    if args.check:
        _check(result)


def spread(n_layers: int, count: int) -> list[int]:
    """`count` layers, evenly spread, whose mean is the mean of all: pairs around the middle."""
    if count % 2 or not 2 <= count <= n_layers:
        raise SystemExit(f"--layers {count}: an even number from 2 to {n_layers}")
    half = [round((i + 0.5) * n_layers / count - 0.5) for i in range(count // 2)]
    return [*half, *(n_layers - 1 - layer for layer in reversed(half))]


def agreement(found: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Largest differences of each way from the engine; ends the benchmark where they say different things."""
    out = {}
    for name, values in found.items():
        apart = values - found["engine"]
        out[name] = {"per_example": apart.abs().max().item(), "means": apart.mean(1).abs().max().item()}
        if not (out[name]["per_example"] <= PER_EXAMPLE and out[name]["means"] <= MEANS):
            raise SystemExit(f"{name} and the engine differ, so their times mean nothing: {out[name]}")
    return out


def measure(
    network: Network,
    prompts: Sequence[Prompt],
    heads: Heads,
    args: argparse.Namespace,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Seconds for all heads of the model, medians over rounds in which every way runs once."""
    every = network.shape.n_layers * network.shape.n_heads
    few = list(range(0, len(heads), 1 if args.full else network.shape.n_heads))
    of_way = {name: few if "loop" in name else list(range(len(heads))) for name in WAYS}
    for way in WAYS.values():  # whatever is set up at the first call
        way(network, prompts[:2], heads[:1])
    times: dict[str, list[float]] = {name: [] for name in (*WAYS, "once a batch")}
    found: dict[str, Tensor] = {}
    differences: dict[str, dict[str, float]] = {}
    for number in range(args.rounds):
        for name, way in WAYS.items():
            chosen = [heads[i] for i in of_way[name]]

            def call(name: str = name, way: Way = way, chosen: Heads = chosen) -> None:
                found[name] = way(network, prompts, chosen)

            times[name].append(timed(call, clock))
        differences = agreement(
            {name: values if len(values) == len(few) else values[few] for name, values in found.items()}
        )
        times["once a batch"].append(timed(lambda: engine_only_once(network, prompts, heads), clock))
        print(
            f"round {number + 1}: " + ", ".join(f"{name} {t[-1]:.2f} s" for name, t in times.items()),
            flush=True,
        )
    once = times.pop("once a batch")
    seconds = {name: [t * every / len(few) for t in ts] for name, ts in times.items()}
    for name in ("engine", "engine, every metric"):
        scale = every / len(heads)
        seconds[name] = [o + (t - o) * scale for t, o in zip(times[name], once, strict=True)]
    tokens = sum(len(prompt.ids) for prompt in prompts) * every
    median = {name: statistics.median(ts) for name, ts in seconds.items()}
    by_round = [b / e for b, e in zip(seconds["bridge loop"], seconds["engine"], strict=True)]
    return {
        "agreement": differences, "n_prompts": len(prompts),
        "heads_timed": len(heads), "heads": every, "timed": times, "once_a_batch": once,
        "seconds": median, "seconds_by_round": seconds,
        "prompt_tokens_per_s": {name: tokens / t for name, t in median.items()},
        "times_as_fast_as": {name: t / median["engine"] for name, t in median.items() if "loop" in name},
        "bridge_ratio_by_round": by_round,
    }  # fmt: skip


def engine_only_once(network: Network, prompts: Sequence[Prompt], heads: Heads) -> None:
    """What the engine does once a batch whatever the plan: layout, clean pass, guards."""
    assert executor(network, prompts, heads).batches  # the layout of the real plan
    list(executor(network, prompts, []))


def _finish(
    network: Network, part: dict[str, Any], peaks: Mapping[str, float], name: str, args: argparse.Namespace
) -> None:
    """Add floor and memory, and print."""
    prompts = _prompts(network, name)
    every = [
        (layer, head) for layer in range(network.shape.n_layers) for head in range(network.shape.n_heads)
    ]
    operations = sum(multiply_adds(network, prompts, every))
    part["floor_s"] = operations / max(peaks.values())
    part["of_floor_by_torch"] = part["seconds"]["engine"] * peaks["torch"] / operations
    part["of_floor"] = part["seconds"]["engine"] / part["floor_s"]
    run = executor(network, prompts, every)
    part["nodes"], part["prefix_tree"] = sum(b.n_nodes for b in run.batches), run.uses_prefix_tree
    if args.memory:
        part["memory"] = {way: peak_memory(way, *_split(name)) for way in WAYS}
    print(
        f"\n{name}: all {part['heads']} heads" + ("" if args.full else f", from {part['heads_timed']} timed")
    )
    for way, seconds in part["seconds"].items():
        rate, line = part["prompt_tokens_per_s"][way], f"  {way:22}{seconds:9.1f} s"
        line += f"{seconds / part['seconds']['engine']:7.2f} x{rate:11,.0f} prompt tokens/s"
        if args.memory:
            line += f"{(part['memory'][way]['peak'] - part['memory'][way]['model']) / GIGABYTE:7.2f} GB beside the model"
        print(line)
    floor = f"  {'arithmetic floor':22}{part['floor_s']:9.1f} s"
    print(f"{floor}; the engine is at {part['of_floor']:.2f} of it, {part['nodes']} nodes")
    print(
        f"  with PyTorch's own product for the floor, the engine would be at {part['of_floor_by_torch']:.2f}"
    )


def _split(name: str) -> tuple[str, int]:
    """`facts=64` as family and number of prompts."""
    family, _, count = name.partition("=")
    if not count.isdecimal():
        raise SystemExit(f"--families {name}: as in facts=64")
    return family, int(count)


def _prompts(network: Network, name: str) -> list[Prompt]:
    return load_prompts(network, *_split(name))


def _check(result: dict[str, Any]) -> None:
    wrong = []
    for family, part in result["families"].items():
        least = LEAST_RATIO.get(family, 0.0)
        if part["times_as_fast_as"]["bridge loop"] < least:
            wrong.append(f"{family}: less than {least} times as fast as the Bridge loop")
        if part["of_floor"] > MOST_OF_FLOOR:
            wrong.append(f"{family}: more than {MOST_OF_FLOOR} times the arithmetic floor")
        memory = part.get("memory", {}).get("engine")
        if memory and memory["peak"] - memory["model"] > GIGABYTE:
            wrong.append(f"{family}: more than 1 GB beside the model")
    if wrong:
        raise SystemExit("\n".join(wrong))


def _facts(args: argparse.Namespace, heads: Heads) -> dict[str, Any]:
    commit = git_commit()
    return {
        "schema": 2,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": commit.sha if commit else None,
        "git_dirty": commit.dirty if commit else None,
        "machine": {**machine(), "threads": args.threads, "load_at_start": os.getloadavg()[0]},
        "versions": versions(("torch", "transformers", "transformer-lens", "tiny-ablation")),
        "clock": "CPU time" if args.cpu_time else "wall",
        "model": "smollm2_135m", "dtype": "float32", "rounds": args.rounds,
        "layers_timed": sorted({layer for layer, _ in heads}),
        "families": {},
    }  # fmt: skip


def _write(result: dict[str, Any]) -> None:
    name = result["when"].replace(":", "").removesuffix("+0000")
    path = Path("outputs") / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    peaks = ", ".join(f"{product} {rate}" for product, rate in result["peak_gflops"].items())
    print(f"\nmatrix-product peaks, GFLOP/s: {peaks}; everything in {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.bench", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument(
        "--layers", type=int, default=2, help="layers whose heads are timed (default: %(default)s)"
    )
    parser.add_argument("--full", action="store_true", help="time all heads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU time instead of wall time")
    parser.add_argument(
        "--families",
        nargs="+",
        default=list(FAMILIES),
        help="such as facts=64: a family and how many prompts",
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="do not measure peak memory")
    parser.add_argument(
        "--check", action="store_true", help="fail where the engine misses what it is held to"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
