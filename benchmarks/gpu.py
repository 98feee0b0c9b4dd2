"""How exact and how fast the engine is on a GPU: one script of at most eight minutes.

    python3 -m benchmarks.gpu --out DIR            on a machine with a GPU
    python3 -m benchmarks.gpu --out DIR --tiny     the same in a minute on any processor, to try the script

Needs this checkout, PyTorch and transformers; nothing else is imported, downloaded or installed. Models are random weights in
the shape of real ones, so speeds are theirs and effects mean nothing. Prompts are random tokens that share prefixes as prompts
of the package's corpora do.

Checked first, for each model and precision: effects by the engine against those of the bare model, one unpadded prompt at a
time. Then each job is timed in every way, in turn, round after round; where a job is too long, items of some layers stand for
all (see `benchmarks.bench`). Results are written after each job, so that what is there is kept when time runs out: `gpu.json`,
and `gpu.md` with the tables.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks.floor import multiply_adds
from benchmarks.jobs import TOP_HEADS, Item, Job, job_on, spread
from benchmarks.random_models import SHAPES, build, prompts
from benchmarks.ways import engine, plain_loop, rows_loop
from tiny_ablation.engine.cost import peak_rate
from tiny_ablation.models.network import Network

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
# What two correct computations of a logit difference may be apart; `NUMERICAL_TOLERANCE` of the package, without its schema.
TOLERANCE = {"bfloat16": 0.25, "float32": 1e-3}
JOBS = (("heads", "facts", 300), ("heads", "ioi", 200), ("pairs", "ioi", 64), ("patching", "ioi", 64))
TOKENS = (4096, 16384, 65536)  # in one pass of the engine
# Of a model of more parameters, items of two layers stand for all, on fewer prompts, and the largest passes are left out.
LARGE, FEWER = 10**9, 32
LOOPED = 6  # items that a loop is timed on

Found = dict[str, Any]


def main() -> None:
    args = _arguments()
    started = time.perf_counter()
    left = lambda: args.seconds - (time.perf_counter() - started)  # noqa: E731
    _set_up()
    result: Found = {"schema": 1, "facts": _facts(args), "models": [], "left_out": []}
    for shape in ["tiny"] if args.tiny else args.shapes:
        for dtype in args.dtypes:
            if left() < 20:
                result["left_out"].append(f"{shape} {dtype}")
                continue
            found: Found = {"model": shape, "dtype": dtype, "jobs": {}}
            result["models"].append(found)
            try:
                _measure(found, shape, dtype, args, left, lambda: _write(result, args.out))
            except torch.OutOfMemoryError as error:
                found["error"] = str(error).splitlines()[0]
            _write(result, args.out)
            if args.device == "cuda":
                torch.cuda.empty_cache()
    result["facts"]["seconds"] = time.perf_counter() - started
    _write(result, args.out)
    print((args.out / "gpu.md").read_text())


def _measure(
    found: Found, shape: str, dtype: str, args: argparse.Namespace, left: Callable[[], float], save: Callable[[], None]
) -> None:
    network = build(shape, DTYPES[dtype], args.device)
    found["parameters"] = sum(p.numel() for p in network.hf.parameters())
    large = found["parameters"] > LARGE
    found["peak_tflops"] = peak_rate(network, rows=256 if args.tiny else 8192) / 1e12
    found["exact"] = exactness(network, dtype)
    print(f"{shape} {dtype}: {found['peak_tflops']:.1f} TFLOP/s, {found['exact']}", flush=True)
    save()
    n_layers = network.shape.n_layers
    layers = spread(n_layers, 2) if large else range(n_layers)
    for kind, corpus, n in JOBS:
        if left() < 15:
            found.setdefault("left_out", []).append(f"{kind}:{corpus}")
            continue
        n = 6 if args.tiny else FEWER if large else n
        heads = [(i * n_layers // TOP_HEADS, i % network.shape.n_heads) for i in range(TOP_HEADS)]
        job = job_on(network, kind, *prompts(corpus, n, network.shape.d_vocab), layers, heads)
        tokens = TOKENS[:1] if args.tiny else TOKENS[:2] if large else TOKENS
        name = f"{kind}:{corpus}={n}"
        found["jobs"][name] = timed(network, job, tokens, found["peak_tflops"], args)
        print(f"  {name} {found['jobs'][name]['seconds']}", flush=True)
        save()


@torch.inference_mode()
def exactness(network: Network, dtype: str) -> Found:
    """Largest differences of logit differences from those of the bare model, one unpadded prompt at a time.

    Those of the padded loop stand beside those of the engine: that is what the kernels of the machine do to any way.
    """
    out: Found = {}
    worst = {"engine": 0.0, "plain loop": 0.0}
    effect = 0.0
    for kind in ("heads", "patching"):
        clean, corrupt = prompts("ioi", 8, network.shape.d_vocab)
        job = job_on(network, kind, clean, corrupt, range(network.shape.n_layers))
        items = job.items[:: max(1, len(job.items) // 16)]
        bare = torch.cat([plain_loop(network, _alone(job, i), items) for i in range(len(job.prompts))], 1)
        for name, way in (("engine", engine), ("plain loop", plain_loop)):
            worst[name] = max(worst[name], (way(network, job, items) - bare).abs().max().item())
        effect = max(effect, (bare - bare.mean(0)).abs().max().item())
    out |= {name.replace(" ", "_"): round(value, 7) for name, value in worst.items()}
    return out | {"largest_effect": round(effect, 3), "within": worst["engine"] <= TOLERANCE[dtype]}


def _alone(job: Job, index: int) -> Job:
    """The job on one prompt."""
    one = slice(index, index + 1)
    return replace(job, prompts=job.prompts[one], sources=job.sources[one])


def timed(network: Network, job: Job, tokens: Sequence[int], peak_tflops: float, args: argparse.Namespace) -> Found:
    """Seconds of every way for all items; medians over rounds in which all ways run in turn."""
    looped = job.looped[:: max(1, len(job.looped) // LOOPED)]
    ways: dict[str, tuple[Callable[[Sequence[Item]], Tensor], Sequence[Item]]] = {
        "plain loop": (lambda items: plain_loop(network, job, items), looped),
        "items as rows": (lambda items: rows_loop(network, job, items, 16384), job.looped[: 4 * LOOPED]),
    }
    for n in tokens:
        ways[f"engine, {n} tokens"] = (lambda items, n=n: engine(network, job, items, batch_tokens=n), job.timed)
    few = replace(job, prompts=job.prompts[:2], sources=job.sources[:2])
    for way in (plain_loop, engine):  # what is set up at the first call
        way(network, few, looped[:1])
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, (way, items) in ways.items():
            times[name].append(_seconds(lambda way=way, items=items: way(items), args.device))
    seconds = {name: statistics.median(ts) * len(job.items) / len(ways[name][1]) for name, ts in times.items()}
    fastest = min((name for name in ways if name.startswith("engine")), key=lambda name: seconds[name])
    memory = _memory(lambda: ways[fastest][0](job.timed), args.device)
    floor = multiply_adds(network, job) / peak_tflops / 1e12
    return {
        "prompts": len(job.prompts),
        "tokens": sum(len(prompt.ids) for prompt in job.prompts),
        "items": len(job.items),
        "timed": {name: len(items) for name, (_, items) in ways.items()},
        "rounds": times,
        "seconds": {name: round(t, 4) for name, t in seconds.items()},
        "fastest": fastest,
        "times_as_fast": {name: round(t / seconds[fastest], 2) for name, t in seconds.items()},
        "floor_s": floor,
        "of_floor": round(seconds[fastest] / floor, 2),
        "memory_beside_model_gb": memory,
    }


def _seconds(call: Callable[[], object], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _memory(call: Callable[[], object], device: str) -> float | None:
    """Gigabytes beside what is held already; None where the device does not tell."""
    if device != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return round((torch.cuda.max_memory_allocated() - before) / 1e9, 2)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _set_up() -> None:
    """As a run of the tool sets PyTorch up."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    torch.backends.cuda.matmul.allow_tf32 = False


def _facts(args: argparse.Namespace) -> Found:
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else None
    return {
        "gpu": gpu,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "rounds": args.rounds,
    }


def _write(result: Found, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (out / "gpu.md").write_text(page(result), encoding="utf-8")


def page(result: Found) -> str:
    """The tables of a result, for the page on performance."""
    facts = result["facts"]
    lines = [
        f"{facts['gpu'] or 'No GPU'}, torch {facts['torch']}, transformers {facts['transformers']}; "
        f"medians of {facts['rounds']} rounds; random weights.",
        "",
        "| model | dtype | products, TFLOP/s | engine against one prompt at a time | padded loop against it | largest effect |",
        "|---|---|---|---|---|---|",
    ]
    measured = [model for model in result["models"] if "exact" in model]
    lines += [
        f"| {m['model']} | {m['dtype']} | {m['peak_tflops']:.1f} | {m['exact']['engine']:.1e} | "
        f"{m['exact']['plain_loop']:.1e} | {m['exact']['largest_effect']:.2f} |"
        for m in measured
    ]
    lines += [
        "",
        "| model | dtype | job | runs | plain loop, s | items as rows, s | engine, s (tokens a pass) | faster than the loop "
        "| than rows | of the floor | beside the model, GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(m, name, job) for m in measured for name, job in m["jobs"].items()]
    left_out = [*result["left_out"], *(f"{m['model']} {m['dtype']} {j}" for m in measured for j in m.get("left_out", []))]
    left_out += [f"{m['model']} {m['dtype']}: {m['error']}" for m in result["models"] if "error" in m]
    return "\n".join([*lines, "", *(["Left out: " + "; ".join(left_out), ""] if left_out else [])])


def _line(model: Found, name: str, job: Found) -> str:
    s, ratio, fastest = job["seconds"], job["times_as_fast"], job["fastest"]
    memory = job["memory_beside_model_gb"]
    cells = [
        model["model"],
        model["dtype"],
        f"`{name}`",
        job["items"],
        f"{s['plain loop']:.2f}",
        f"{s['items as rows']:.2f}",
        f"{s[fastest]:.2f} ({fastest.split()[1]})",
        f"**{ratio['plain loop']:.1f}**",
        f"{ratio['items as rows']:.1f}",
        f"{job['of_floor']:.2f}",
        "" if memory is None else memory,
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where gpu.json and gpu.md go")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["135M", "6.7B"])
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=450, help="after which no further job is begun")
    parser.add_argument("--tiny", action="store_true", help="a model of four small layers and few prompts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
