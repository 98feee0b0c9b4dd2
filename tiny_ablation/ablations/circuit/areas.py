"""The areas under and beside a faithfulness curve: CPR, and CMD without the bias that noise gives absolute values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.ablations.circuit.curves import Curves, mean_of
from tiny_ablation.stats.clusters import Floats, cluster_sums
from tiny_ablation.stats.halves import absolute_without_bias, random_halves
from tiny_ablation.stats.percentile import percentile_among

N_SPLITS = 200
"""Random halves of the groups."""


def areas(curves: Curves, ranking: str, table: pd.DataFrame) -> dict[str, Any]:
    """CPR and CMD by the trapezoid rule over the fractions, with intervals and beside random circuits."""
    x = np.array(curves.plan.fractions)
    sizes = [curves.plan.size(fraction) for fraction in x]
    above = np.array([curves.circuit(ranking, size, "kept") for size in sizes])  # (fractions, n)
    random = _random_areas(curves, ranking, sizes, x)
    cpr = curves.ratios(np.array([np.trapezoid(above, x, axis=0)]))
    bounds = cpr.columns("ci_low", "ci_high", "shape")
    plain = float(np.trapezoid(np.abs(1 - np.array([curves.point(each) for each in above])), x))
    return {
        "cpr": {
            "value": float(cpr.ratio[0]),
            **{name: values[0] for name, values in bounds.items()},
            **_among(float(cpr.ratio[0]), random["cpr"]),
        },
        "cmd": {"value": _cmd(curves, above, x), "uncorrected": plain, **_cmd_bounds(table, x), **_among(plain, random["cmd"])},
    }


def _among(own: float, random: Floats) -> dict[str, Any]:
    return {"random_mean": mean_of(random), "n_random": len(random), "percentile": percentile_among(own, random)}


def _cmd(curves: Curves, above: Floats, x: Floats) -> float:
    """The area between f and 1, without what noise adds to absolute values; NaN with fewer than two groups."""
    sums, _ = cluster_sums(np.vstack([above, curves.span]), curves.groups)
    if sums.shape[1] < 2:
        return float("nan")
    first = random_halves(sums.shape[1], N_SPLITS, curves.draws("halves")).astype(np.float64)
    totals = np.array([half @ sums.T for half in (first, 1 - first)])  # (halves, splits, fractions and the span)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = 1 - totals[..., :-1] / totals[..., -1:]
    usable = np.isfinite(distance).all(axis=(0, 2))
    if not usable.any():
        return float("nan")
    return float(np.trapezoid(absolute_without_bias(distance[:, usable]), x))


def _cmd_bounds(table: pd.DataFrame, x: Floats) -> dict[str, Any]:
    """The least and the largest area between 1 and a curve within the intervals of f, which hold at once."""
    low, high = table["faithfulness_low"].to_numpy(), table["faithfulness_high"].to_numpy()
    nearest = np.maximum(0.0, np.maximum(low - 1, 1 - high))
    farthest = np.maximum(np.abs(1 - low), np.abs(1 - high))
    return {"ci_low": float(np.trapezoid(nearest, x)), "ci_high": float(np.trapezoid(farthest, x))}


def _random_areas(curves: Curves, ranking: str, sizes: Sequence[int], x: Floats) -> dict[str, Floats]:
    """CPR and CMD of random curves: draw i of every size, starting again where a size has fewer."""
    null = [curves.randoms(ranking, size, "kept") for size in sizes]
    n = curves.plan.n_random if all(len(f) for f in null) else 0
    f = np.array([[of_size[i % len(of_size)] for of_size in null] for i in range(n)]).reshape(n, len(x))
    return {"cpr": np.trapezoid(f, x, axis=1), "cmd": np.trapezoid(np.abs(1 - f), x, axis=1)}
