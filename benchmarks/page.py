"""Write docs/performance.md from the JSON of benchmarks: `python -m benchmarks.page outputs/bench/A.json ...`.

Beside the files that are named stand those of `benchmarks/results`: one a processor, `growth.json` and `screening.json`. Where
several files of one processor hold the same job, the later one counts.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
_WAYS = {
    "bridge loop": "Bridge loop",
    "plain loop": "plain loop",
    "plain loop, items as rows": "in rows",
    "nnsight loop": "nnsight loop",
    "engine, by length": "before",
    "engine": "engine",
}
AIMED = 0.95  # recall of the ten strongest heads
_KINDS = {
    "heads": "every head of the model zeroed, one at a time",
    "pairs": "all pairs of the twelve strongest heads zeroed",
    "circuit": "all heads zeroed but the 0, 1, 2, 4, ... 192 strongest",
    "patching": "the clean residual stream put into the corrupt run, every layer and position",
}
_INTRO = """# Performance

Written by `make performance` from the results of `make bench`; not by hand.

All ways run in one process, in turn, round after round, and say the same: every example within {per_example:g}, every mean
within {means:g} (otherwise the benchmark stops). Seconds are medians over rounds (one round for *before*), scaled up from the
part of each job that was timed (`benchmarks/bench.py` says how).

- The Bridge loop is what TransformerLens' documentation does: a padded batch and `run_with_hooks`, one forward a run. The plain
  loop does the same on the Hugging Face model, *in rows* with several runs in one forward, nnsight's with its tracing.
- *Before* is the engine as it was first: blocks below the change skipped, prompts in batches by length without padding, logits
  at the answers only, PyTorch's own products; no prefix trees, and nothing shared by pairs.

The jobs:
"""
_FLOOR = """
The floor is the time of the matrix products alone, at the best rate that this machine reached for them in the same process:
every distinct node of the prefix tree once per run, in the blocks from the changed one on, and only the nodes that the change
can reach. It is given at the rate of PyTorch's own product, which the loops use, and in brackets at that of the engine's, where
the machine has a faster one (oneDNN with AVX-512): a floor that is lower by as much.

## What to expect on another processor

For all heads, one at a time, the engine is about

    ratio = padded tokens / nodes x blocks / mean number of blocks from the change on x engine's rate / loop's rate / share

times as fast as a loop. Padded tokens are prompts x the longest prompt, which a loop pushes through the model in each run;
nodes are the tokens of the prefix tree, of which prompts that share little have as many as they have tokens. The second factor
is near two. The engine's rate is the second of the rates above, the loop's 0.5 to 0.65 of the first (it unembeds every token
too), and share is the last column of the table, in brackets. 300 facts have 5,700 padded tokens and 1,801 nodes, 64 facts 1,088
and 651, 200 prompts of `ioi` 4,600 and 2,561. Where oneDNN is not faster than PyTorch's own product (the Intel
Xeon, AVX-512 in two halves, or none), the third factor is half of what it is on the Zen 5.

## Where it comes from

- Blocks below the changed one are not run: half of the work for single heads.
- Prompts are not padded, and a prefix that prompts share is computed once (`engine/layout.py`).
- Tokens that a change cannot reach are not computed: patching one position at a time runs the tokens behind it, an edit at the
  answer position the answers only; pairs share the pass of their lower head (`engine/scheduling.py`).
- The last MLP and the unembedding run at the answers only.
- Many runs share one pass, in batches that are large enough for the matrix products (`engine/executor.py`).
- Memory does not grow with the number of prompts: only one batch is held, oneDNN may keep little code, and what a batch freed
  goes back to the system (`engine/executor.py`).
- On CPUs with AVX-512, products take oneDNN with packed weights where that is faster and was seen to agree
  (`models/onednn_linear.py`); attention among the nodes of a tree goes in chunks of neighbours (`models/tree_attention.py`).

Not used: `torch.compile`. A block of the default model over nine runs of 275 nodes took 123 ms compiled and 135 ms as it is,
after 21 s of compiling and 3 to 4 s more for each of the next shapes, of which every batch brings some; what left the block
moved by 8e-5. Nor are an MLP's activation and gate computed inside oneDNN's products: 0 to 9 % of the MLP, within noise. Nor do
MLPs take the rows of a pass in parts that fit the second-level cache: on their own they gain up to a fifth (Intel Xeon, 4,096
rows in parts of 512 to 1,024), but a whole run only 1 to 4 %. Passes of 512 to 4,096 tokens differ by 12 %; 4,096 are best.
"""
_WHOLE = """## The default run as a whole

`make run` with the model in the cache, on a terminal; seconds, medians. The loop is the stage of the interventions.
"""

_GROWTH = """## Growth

Every head zeroed one by one, on random weights and prompts that share no prefix; one thing varied at a time
(`python -m benchmarks.growth`). The power is that of the upper half of each curve.

![time against examples, layers, heads, tokens and conditions](pictures/growth.png)
"""
_SCREENING = """## Screening

`ablation.screen=attribution` on {n} prompts of each behaviour, against measuring all heads (`python -m benchmarks.screening`).
Recall is the share of the ten heads with the largest measured effects that were chosen, where a tenth and a fifth of the runs
are spent in all: a gradient counts as three runs, the pilot as what it takes. Beside it, what gradients choose for as much.
"""
_MISSED = """
A tenth of the runs does not find .95 of the ten strongest: behind the strongest few, effects differ by less than their standard
errors, so that which head is the tenth is largely chance, and some heads act where first-order estimates see nothing.
"""


def page(
    results: Sequence[Mapping[str, Any]], growth: Mapping[str, Any] | None = None, screening: Mapping[str, Any] | None = None
) -> str:
    """The page for these results, and for those of `benchmarks.growth` and `benchmarks.screening`."""
    from benchmarks.bench import MEANS, PER_EXAMPLE

    of_processor: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        of_processor.setdefault(_processor(result), []).append(result)
    kinds = {name.partition(":")[0] for result in results for name in result["jobs"]}
    lines = [_INTRO.format(per_example=PER_EXAMPLE, means=MEANS)]
    lines += [f"- `{kind}`: {what}" for kind, what in _KINDS.items() if kind in kinds]
    for name, found in of_processor.items():
        rates = ", ".join(f"{product} {rate:.0f}" for product, rate in found[-1]["peak_gflops"].items())
        jobs = {name: part for result in found for name, part in result["jobs"].items()}
        lines += ["", f"## {name}", "", f"Matrix products, GFLOP/s: {rates}.", "", *_table(jobs)]
    lines += [
        _FLOOR,
        *_around(results),
        *_growth(growth),
        *_screening(screening),
        "## Measured on",
        "",
        *dict.fromkeys(map(_machine, results)),
        "",
    ]
    return "\n".join(lines)


def _processor(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    kind = ", ".join(machine[key] for key in ("generation", "vectors") if machine.get(key))
    return f"{machine.get('cpu', 'a CPU')} ({kind})" if kind else machine.get("cpu", "a CPU")


def _table(jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    ways = [way for way in _WAYS if any(way in part["seconds"] for part in jobs.values())]
    head = [
        "job",
        "prompts",
        "runs",
        *(f"{_WAYS[way]}, s" for way in ways),
        "times as fast as the Bridge loop (rounds)",
        "of the floor (of the engine's product)",
    ]
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for name, part in sorted(jobs.items()):
        seconds, rounds = part["seconds"], part["bridge_ratio_by_round"]
        ratio = part["times_as_fast_as"].get("bridge loop")
        cells = [
            f"`{name}`",
            str(part["n_prompts"]),
            str(part["items"]),
            *(f"{seconds[way]:.1f}" if way in seconds else "" for way in ways),
            "" if ratio is None else f"**{ratio:.2f}** ({min(rounds):.2f} to {max(rounds):.2f})",
            f"**{part['of_floor_by_torch']:.2f}** ({part['of_floor']:.2f})",
        ]
        yield f"| {' | '.join(cells)} |"


def _around(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Peak memory and the parts of a whole run, where they were measured."""
    memory = {name: found for result in results for name, found in result.get("memory", {}).items()}
    whole = next((result["whole"] for result in reversed(results) if "whole" in result), None)
    if memory:
        yield from (
            "## Peak memory of the engine",
            "",
            "| job | model, GB | peak, GB | beside the model, GB |",
            "|---|---|---|---|",
        )
        for name, found in memory.items():
            model, peak = (found[key] / 2**30 for key in ("model", "peak"))
            yield f"| `{name}` | {model:.2f} | {peak:.2f} | **{peak - model:.2f}** |"
        yield ""
    if whole:
        yield from (_WHOLE, "| first progress tick | whole | loop | all but the loop | loop, of what comes after start-up |")
        yield "|---|---|---|---|---|"
        cells = (
            f"**{whole['first_tick']:.1f}**",
            *(f"{whole[key]:.1f}" for key in ("whole", "loop")),
            f"**{whole['rest']:.1f}**",
        )
        yield f"| {' | '.join(cells)} | {100 * whole['loop_share']:.0f}% |"
        yield ""


def _growth(found: Mapping[str, Any] | None) -> Iterator[str]:
    if not found:
        return
    yield _GROWTH
    yield "| varied | from | to | power of the time | arithmetic |"
    yield "|---|---|---|---|---|"
    for name, curve in found.items():
        steps = curve["steps"]
        yield f"| {name} | {steps[0]} | {steps[-1]} | **{curve['power']:.2f}** | {curve['expected']} |"
    yield ""


def _screening(found: Mapping[str, Any] | None) -> Iterator[str]:
    if not found:
        return
    yield _SCREENING.format(**found)
    shares = list(next(iter(found["families"].values())))
    yield f"| behaviour | {' | '.join(f'at {float(s):.0%} | gradients alone, at {float(s):.0%}' for s in shares)} |"
    yield f"|{'---|' * (1 + 2 * len(shares))}"
    rows = {
        name: [part[s][key] for s in shares for key in ("recall", "recall_gradients")]
        for name, part in found["families"].items()
    }
    rows["mean"] = [sum(column) / len(column) for column in zip(*rows.values(), strict=True)]
    for name, values in rows.items():
        yield f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |"
    yield _MISSED if rows["mean"][0] < AIMED else ""


def _machine(result: Mapping[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    return (
        f"- {result['when'][:10]}, {result['model']}, {result['dtype']}, {machine['threads']} threads of "
        f"{_processor(result)}; torch {versions.get('torch')}, transformers {versions.get('transformers')}, "
        f"transformer-lens {versions.get('transformer-lens')}; {result['rounds']} rounds of "
        f"{result['clock']} time; commit {str(result['git_commit'])[:12]}{' and changes' if result['git_dirty'] else ''}"
    )


def main(paths: Sequence[str]) -> None:
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in [*sorted(RESULTS.glob("*.json")), *map(Path, paths)]}
    growth, screening = found.pop("growth", None), found.pop("screening", None)
    if (picture := Path("outputs/bench/growth.png")).is_file():
        shutil.copy(picture, PAGE.parent / "pictures")
    PAGE.write_text(page(list(found.values()), growth, screening), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
