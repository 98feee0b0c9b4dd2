"""Compute a few sites and examples of a run again, by other means, and say what the difference means.

`float64` runs the plain reference (one prompt, one intervention, TransformerLens' own hooks) in double precision; `cpu` runs it
in float32 on the CPU. Both share no batching, masks, hooks or attention code with the engine.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tiny_ablation.config.schema import DType, VerifyMode
from tiny_ablation.config.seeds import generator
from tiny_ablation.engine.precision import FLOORS
from tiny_ablation.engine.reference import Reference
from tiny_ablation.interventions.measure import Measured
from tiny_ablation.interventions.prepare import Prepared
from tiny_ablation.models.network import Network, build_network
from tiny_ablation.stats.ranks import spearman

# A difference of this many floors cannot come from rounding.
BUG_FACTOR = 50


@dataclass(frozen=True)
class Slice:
    """The part of a leg that is computed again.

    Attributes:
        rows: indices of rows: strongest, weakest and random ones.
        examples: indices into the finished examples: the last ones.
    """

    rows: Sequence[int]
    examples: Sequence[int]


def resolve_mode(mode: VerifyMode, device: str) -> VerifyMode:
    """What `auto` means on this device: the CPU for an accelerator, double precision for a CPU."""
    if mode is not VerifyMode.auto:
        return mode
    return VerifyMode.float64 if device == "cpu" else VerifyMode.cpu


def verify(prepared: Prepared, measured: Measured) -> dict[str, Any]:
    """The content of `metrics/verify.json`."""
    root = prepared.light.settings.root
    mode = resolve_mode(root.verify.mode, prepared.device)
    part = choose(prepared, measured)
    main = _main(prepared, measured, part)
    again = _again(prepared, measured, part, mode)
    tolerance = FLOORS[root.device.dtype]
    verdicts = {name: _verdict(main[name], again[name], tolerance) for name in main}
    worst = max(verdicts.values(), key=_ORDER.index)
    return {
        "device_main": f"{prepared.device} {root.device.dtype.value}",
        "device_verify": "cpu float64, reference" if mode is VerifyMode.float64 else "cpu float32, reference",
        "n_examples": len(part.examples),
        "n_seeds": 1,
        "tolerance": tolerance,
        "verdict": worst,
        "metrics": {
            name: {"main": float(main[name].mean()), "verify": float(again[name].mean()),
                   "abs_diff": float(abs(main[name].mean() - again[name].mean())), "verdict": verdicts[name]}
            for name in main
        },
        "sites": _sites(prepared, measured, part, main, again),
        "rank_correlation": _rank_correlation(main, again, prepared.metrics[0].name),
    }  # fmt: skip


_ORDER = ["ok", "noise", "drift", "bug"]


def _verdict(main: Any, again: Any, tolerance: float) -> str:
    """ok: within the floor. noise: above it, but no mean is. drift: a mean is. bug: beyond anything rounding explains."""
    if not (np.isfinite(main).all() and np.isfinite(again).all()):
        return "bug"
    worst = np.abs(main - again).max()
    mean = np.abs((main - again).mean(1)).max()
    if worst <= tolerance:
        return "ok"
    if worst > BUG_FACTOR * tolerance:
        return "bug"
    return "drift" if mean > tolerance else "noise"


def choose(prepared: Prepared, measured: Measured) -> Slice:
    """Sites from the top, the bottom and at random, and the last examples."""
    root = prepared.light.settings.root
    ran = [i for i, row in enumerate(measured.leg.rows) if row.intervention is not None]
    name = prepared.metrics[0].name
    effect = np.abs((measured.values[name] - measured.baseline[name]).mean(1))
    by_size = sorted(ran, key=lambda i: (-effect[i], i))
    n = min(root.verify.n_sites, len(ran))
    third = max(1, n // 3)
    rows = dict.fromkeys([*by_size[:third], *by_size[len(by_size) - third :]])
    for i in generator(root.seed, "verify").permutation(by_size):
        if len(rows) >= n:
            break
        rows[int(i)] = None
    count = min(root.verify.n_examples, len(measured.examples))
    return Slice(sorted(list(rows)[:n]), range(len(measured.examples) - count, len(measured.examples)))


def _main(prepared: Prepared, measured: Measured, part: Slice) -> dict[str, Any]:
    """For each metric (1 + rows, examples): the baseline, then each site."""
    rows, columns = list(part.rows), list(part.examples)
    return {
        m.name: np.vstack(
            [measured.baseline[m.name][None, columns], measured.values[m.name][rows][:, columns]]
        )
        for m in prepared.metrics
    }


def _again(prepared: Prepared, measured: Measured, part: Slice, mode: VerifyMode) -> dict[str, Any]:
    root = prepared.light.settings.root
    network = _other_network(prepared.network, "float64" if mode is VerifyMode.float64 else "float32")
    full = root.metrics.span.value == "full"
    reference = Reference(network, measured.leg.prompts, prepared.metrics, full, measured.leg.under)
    runs = [(None,), *(measured.leg.rows[i].runs or (None,) for i in part.rows)]
    examples = [int(measured.examples[i]) for i in part.examples]
    cells = [[[reference.values(run, e) for run in draws] for e in examples] for draws in runs]
    return {
        m.name: np.array([[np.mean([c[m.name] for c in cell]) for cell in row] for row in cells])
        for m in prepared.metrics
    }


def _other_network(network: Network, dtype: str) -> Network:
    """The same weights on the CPU in another precision; the copy goes away with the slice."""
    import torch

    hf = copy.deepcopy(network.hf).to(device="cpu", dtype=getattr(torch, dtype))
    return build_network(replace(network.model, hf=hf))


def _sites(
    prepared: Prepared, measured: Measured, part: Slice, main: Any, again: Any
) -> list[dict[str, Any]]:
    """Per site the largest difference and, where signs differ, by which metric."""
    out = []
    primary = prepared.metrics[0].name
    for place, row in enumerate(part.rows, start=1):
        difference = max(float(np.abs(main[name][place] - again[name][place]).max()) for name in main)
        deltas = [(x[primary][place] - x[primary][0]).mean() for x in (main, again)]
        flips = bool(
            np.sign(deltas[0]) != np.sign(deltas[1]) and max(map(abs, deltas)) > FLOORS[DType.float32]
        )
        out.append({**measured.leg.rows[row].key, "max_abs_diff": difference, "sign_flip": flips})
    return out


def _rank_correlation(main: Any, again: Any, name: str) -> float | None:
    """Spearman correlation of the slice's mean effects; None with fewer than three sites."""
    effects = [(x[name][1:] - x[name][0]).mean(1) for x in (main, again)]
    return float(spearman(effects[0], effects[1])) if len(effects[0]) > 2 else None
