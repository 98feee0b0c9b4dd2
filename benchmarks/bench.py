"""How fast ablation is: the Bridge loop, the plain loop, nnsight's and the engine, in one process and in turn.

Four jobs: `heads` zeroes every head of the model, one at a time; `pairs` all pairs of the twelve strongest; `circuit` all heads
but the strongest, ten numbers of these; `patching` puts the clean residual stream into the corrupt run, one layer and position
at a time.

`make bench` takes three quarters of an hour on two quiet cores: it times a part of each job and scales it up. A loop costs the
same whatever is changed, so it gets a few items; the engine costs less the later the layer, so it gets all items of `--layers`
layers, chosen so that the mean of what is left behind them is that of all layers. What the engine does once a batch is timed by
itself and not scaled (single heads; elsewhere it is small, and scaled like the rest). `--full` times all items every way.

The arithmetic floor takes the fastest matrix product that is at hand: PyTorch's own, or the engine's where that is faster.

Times are of the wall clock. On a busy machine `--cpu-time --threads 1` gives ratios that hardly depend on the load.
"""

import argparse
import json
import os
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor

from benchmarks.floor import multiply_adds, peak_rates, timed
from benchmarks.jobs import Job, executor, spread
from benchmarks.memory import peak_memory
from benchmarks.prompts import load, make_job
from benchmarks.ways import WAYS, Way
from benchmarks.whole import medians
from tiny_ablation.models.network import Network
from tiny_ablation.store.provenance import git_commit, machine, versions

JOBS = ("heads:facts=64", "heads:facts=300", "heads:ioi=200", "pairs:ioi=64", "patching:ioi=64", "circuit:ioi=64")
# Ways that nobody would choose show what a part of the engine is worth; they are timed once.
ONCE = ("engine, by length", "engine, every metric")
# What float32 implementations with other kernels may differ by, per example and in means over examples. Rounding grows where
# most heads are removed: on an Intel Xeon, circuits came within 1.2e-4 (Bridge loop) and 2.4e-4 (engine) of float64.
PER_EXAMPLE, MEANS = 5e-4, 5e-5
GIGABYTE = 2**30
# What the engine is held to, `make bench BENCH=--check`.
LEAST_RATIO = {
    "heads:facts=64": 3.0,
    "heads:ioi=64": 2.4,
    "heads:facts=300": 6.0,
    "heads:ioi=200": 4.0,
    "pairs": 6.0,
    "patching": 4.0,
}
MOST_OF_FLOOR = 1.3
MOST_TO_TICK, MOST_AROUND = 12.0, 20.0  # seconds


def main() -> None:
    args = _arguments()
    around: dict[str, Any] = {"whole": medians(args.whole)} if args.whole else {}
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    network = load()
    n_layers = network.shape.n_layers
    layers = range(n_layers) if args.full else spread(n_layers, args.layers)
    result: dict[str, Any] = _facts(args, layers) | around
    peaks = [peak_rates(network, clock)]
    jobs = {name: make_job(network, *_split(name), layers) for name in args.jobs}
    for name, job in jobs.items():
        print(
            f"\n{name}: {len(job.prompts)} prompts, {sum(len(p.ids) for p in job.prompts)} tokens, {len(job.items)} runs, "
            f"{len(job.timed)} timed"
        )
        result["jobs"][name] = measure(network, job, args, clock)
        peaks.append(peak_rates(network, clock))
        _write(result | {"peak_gflops": _best(peaks)})  # what is there if the rest is cut off
    best = {product: rate * 1e9 for product, rate in _best(peaks).items()}
    result["peak_gflops"] = _best(peaks)
    for name, job in jobs.items():
        _finish(network, job, result["jobs"][name], best, name, args)
    result["memory"] = {name: peak_memory("engine", *_split(name)) for name in args.memory_of}
    _write(result)
    if args.check:
        _check(result)


def agreement(found: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Largest differences of each way from the engine; ends the benchmark where they say different things."""
    out = {}
    for name, values in found.items():
        apart = values - found["engine"]
        out[name] = {"per_example": apart.abs().max().item(), "means": apart.mean(1).abs().max().item()}
        if not (out[name]["per_example"] <= PER_EXAMPLE and out[name]["means"] <= MEANS):
            raise SystemExit(f"{name} and the engine differ, so their times mean nothing: {out[name]}")
    return out


def _best(peaks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """GFLOP/s of each product."""
    return {product: round(max(peak[product] for peak in peaks) / 1e9, 1) for product in peaks[0]}


def measure(network: Network, job: Job, args: argparse.Namespace, clock: Callable[[], float]) -> dict[str, Any]:
    """Seconds for all items, medians over rounds in which every way runs once."""
    timed_items, looped = (job.items, job.items) if args.full else (job.timed, job.looped)
    few = [timed_items.index(item) for item in looped]
    ways = {name: WAYS[name] for name in args.ways}
    of_way = {name: looped if "loop" in name else timed_items for name in ways}
    for way in ways.values():  # whatever is set up at the first call
        way(network, replace(job, prompts=job.prompts[:2], sources=job.sources[:2]), looped[:1])
    times: dict[str, list[float]] = {name: [] for name in (*ways, "once a batch")}
    found: dict[str, Tensor] = {}
    differences: dict[str, dict[str, float]] = {}
    for number in range(args.rounds):
        for name, way in ways.items():
            if number and name in ONCE:
                continue

            def call(name: str = name, way: Way = way) -> None:
                found[name] = way(network, job, of_way[name])

            times[name].append(timed(call, clock))
        differences = agreement({name: values if len(values) == len(few) else values[few] for name, values in found.items()})
        times["once a batch"].append(timed(lambda: engine_only_once(network, job), clock))
        print(
            f"round {number + 1}: " + ", ".join(f"{name} {t[-1]:.2f} s" for name, t in times.items() if len(t) > number),
            flush=True,
        )
    once, every = times.pop("once a batch"), len(job.items)
    clean = 1 if job.sources else 0  # a forward more, for the values that are put in
    seconds = {name: [t * (every + clean) / (len(few) + clean) for t in ts] for name, ts in times.items() if "loop" in name}
    for name in (name for name in ways if "loop" not in name):
        scale = every / len(timed_items)
        seconds[name] = [o + (t - o) * scale for t, o in zip(times[name], once, strict=False)]
    tokens = sum(len(prompt.ids) for prompt in job.prompts) * every
    median = {name: statistics.median(ts) for name, ts in seconds.items()}
    by_round = [b / e for b, e in zip(seconds.get("bridge loop", []), seconds["engine"], strict=False)]
    return {
        "agreement": differences,
        "n_prompts": len(job.prompts),
        "items_timed": len(timed_items),
        "items": every,
        "timed": times,
        "once_a_batch": once,
        "seconds": median,
        "seconds_by_round": seconds,
        "prompt_tokens_per_s": {name: tokens / t for name, t in median.items()},
        "times_as_fast_as": {name: t / median["engine"] for name, t in median.items() if "loop" in name},
        "bridge_ratio_by_round": by_round,
    }


def engine_only_once(network: Network, job: Job) -> None:
    """What the engine does once a batch whatever the plan: layout, clean pass, guards."""
    if not job.sources and len(job.items) > len(job.timed):
        assert executor(network, job, job.timed).batches  # the layout of the real plan
        list(executor(network, job, []))


def _finish(
    network: Network, job: Job, part: dict[str, Any], peaks: Mapping[str, float], name: str, args: argparse.Namespace
) -> None:
    """Add floor and memory, and print."""
    operations = multiply_adds(network, job)
    part["floor_s"] = operations / max(peaks.values())
    part["of_floor_by_torch"] = part["seconds"]["engine"] * peaks["torch"] / operations
    part["of_floor"] = part["seconds"]["engine"] / part["floor_s"]
    run = executor(network, job, job.items)
    part["nodes"], part["prefix_tree"] = sum(b.n_nodes for b in run.batches), run.uses_prefix_tree
    print(f"\n{name}: all {part['items']} runs" + ("" if args.full else f", from {part['items_timed']} timed"))
    for way, seconds in part["seconds"].items():
        rate, line = part["prompt_tokens_per_s"][way], f"  {way:22}{seconds:9.1f} s"
        line += f"{seconds / part['seconds']['engine']:7.2f} x{rate:11,.0f} prompt tokens/s"
        print(line)
    floor = f"  {'arithmetic floor':22}{part['floor_s']:9.1f} s"
    print(f"{floor}; the engine is at {part['of_floor']:.2f} of it, {part['nodes']} nodes")
    print(f"  with PyTorch's own product for the floor, the engine would be at {part['of_floor_by_torch']:.2f}")


def _split(name: str) -> tuple[str, str, int]:
    """`heads:facts=64` as kind of job, family and number of prompts."""
    kind, _, rest = name.rpartition(":")
    family, _, count = rest.partition("=")
    if not count.isdecimal():
        raise SystemExit(f"--jobs {name}: as in heads:facts=64")
    return kind or "heads", family, int(count)


def _check(result: dict[str, Any]) -> None:
    wrong = []
    for family, part in result["jobs"].items():
        least = LEAST_RATIO.get(family) or LEAST_RATIO.get(family.partition(":")[0], 0.0)
        if part["times_as_fast_as"]["bridge loop"] < least:
            wrong.append(f"{family}: less than {least} times as fast as the Bridge loop")
        if "heads" in _split(family)[0] and part["of_floor_by_torch"] > MOST_OF_FLOOR:
            wrong.append(f"{family}: more than {MOST_OF_FLOOR} times the arithmetic floor")
    for name, memory in result["memory"].items():
        if memory["peak"] - memory["model"] > GIGABYTE:
            wrong.append(f"{name}: more than 1 GB beside the model")
    if "whole" in result and result["whole"]["first_tick"] > MOST_TO_TICK:
        wrong.append(f"the first progress tick of the default run takes more than {MOST_TO_TICK} s")
    if "whole" in result and result["whole"]["rest"] > MOST_AROUND:
        wrong.append(f"the default run takes more than {MOST_AROUND} s beside its inner loop")
    if wrong:
        raise SystemExit("\n".join(wrong))


def _facts(args: argparse.Namespace, layers: Sequence[int]) -> dict[str, Any]:
    commit = git_commit()
    return {
        "schema": 4,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": commit.sha if commit else None,
        "git_dirty": commit.dirty if commit else None,
        "machine": {**machine(), **_processor(), "threads": args.threads, "load_at_start": os.getloadavg()[0]},
        "versions": versions(("torch", "transformers", "transformer-lens", "nnsight", "tiny-ablation")),
        "clock": "CPU time" if args.cpu_time else "wall",
        "model": "smollm2_135m",
        "dtype": "float32",
        "rounds": args.rounds,
        "layers_timed": list(layers),
        "jobs": {},
    }


def _processor() -> dict[str, str]:
    """What tells processors of one name apart: family and model, and the widest vectors that PyTorch uses on it."""
    try:
        facts = dict(re.findall(r"^(cpu family|model)\s*: (\d+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    except OSError:
        facts = {}
    named = ", ".join(f"{name.removeprefix('cpu ')} {number}" for name, number in facts.items())
    return {"generation": named, "vectors": torch.backends.cpu.get_cpu_capability()}


def _write(result: dict[str, Any]) -> None:
    name = result["when"].replace(":", "").removesuffix("+0000")
    path = Path("outputs") / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    peaks = ", ".join(f"{product} {rate}" for product, rate in result["peak_gflops"].items())
    print(f"\nmatrix-product peaks, GFLOP/s: {peaks}; everything in {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=str(__doc__).splitlines()[0])
    parser.add_argument("--layers", type=int, default=2, help="layers whose heads are timed (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="time all heads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU time instead of wall time")
    parser.add_argument(
        "--jobs",
        nargs="+",
        default=list(JOBS),
        help="such as heads:facts=64: heads, pairs, circuit or patching, a family and how many prompts",
    )
    parser.add_argument(
        "--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="those that are compared; the engine among them"
    )
    parser.add_argument(
        "--whole", type=int, default=3, metavar="N", help="time the default run as a whole N times (default: %(default)s)"
    )
    parser.add_argument(
        "--memory-of",
        nargs="*",
        default=["heads:ioi=64", "heads:ioi=2000"],
        metavar="JOB",
        help="jobs whose peak memory is measured for the engine",
    )
    parser.add_argument("--check", action="store_true", help="fail where the engine misses what it is held to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
