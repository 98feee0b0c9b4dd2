"""The primary metric of every circuit of a run on one scale, and the areas under and beside its faithfulness curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.ablations.circuit.design import EMPTY, Design, design, set_name
from tiny_ablation.config.seeds import generator
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.clusters import Floats, cluster_sums
from tiny_ablation.stats.halves import absolute_without_bias, random_halves
from tiny_ablation.stats.percentile import percentile_among
from tiny_ablation.stats.ratios import Ratios, ratio_of_means
from tiny_ablation.stats.simultaneous import critical_value

N_SPLITS = 200
"""Random halves of the groups."""


@dataclass(frozen=True)
class Curves:
    """The primary metric of every circuit, on the examples that all arms finished."""

    prepared: PreparedRun
    plan: Design  # which circuits
    values: dict[str, Floats]  # for each set (n,)
    full: Floats  # (n,) the un-intervened run
    groups: Sequence[str]  # (n,) the cluster of each example

    @cached_property
    def span(self) -> Floats:
        """(n,) what there is to explain."""
        return self.full - self.values[EMPTY]

    def above(self, name: str) -> Floats:
        """(n,) the numerator of f for a set."""
        return self.values[name] - self.values[EMPTY]

    def circuit(self, ranking: str, size: int, role: str) -> Floats:
        """(n,) the numerator of a circuit; the empty one and the whole model need no run."""
        if size in (0, self.plan.n_heads):
            return self.span if (size == 0) == (role == "removed") else np.zeros_like(self.span)
        return self.above(set_name(ranking, size, role))

    def randoms(self, ranking: str, size: int, role: str) -> Floats:
        """(n_random,) f of the random circuits, as many as were drawn; one of them where there is no choice."""
        if size in (0, self.plan.n_heads):
            return np.array([self.point(self.circuit(ranking, size, role))])
        return self.randoms_of(set_name(ranking, size, role))

    def randoms_of(self, name: str) -> Floats:
        """(n_random,) f of the random counterparts of a set, as many as were drawn."""
        found: list[float] = []
        while f"{name}/random_{len(found)}" in self.values:
            found.append(self.point(self.above(f"{name}/random_{len(found)}")))
        return np.array(found)

    def point(self, above: Floats) -> float:
        """One ratio of means; NaN where there is nothing to explain."""
        return float(above.mean() / self.span.mean()) if self.span.mean() else float("nan")

    def ratios(self, above: Any, *, at_once: bool = False) -> Ratios:
        """Ratios of means with intervals, each for itself or all at once; (n_rows, n) numerators."""
        stats, critical = self.prepared.spec.settings.root.stats, None
        if at_once and self.span.mean():
            f = above.mean(1) / self.span.mean()
            sums, sizes = cluster_sums(above - f[:, None] * self.span, self.groups)
            critical = critical_value(sums, sizes, stats.confidence, rng=self.draws("sizes"), n_boot=stats.n_boot)
        return ratio_of_means(above, self.span, self.groups, stats.confidence, critical)

    def draws(self, label: str) -> np.random.Generator:
        """Random numbers of their own for one purpose."""
        return generator(self.prepared.spec.settings.root.seed, "bootstrap", "circuit", label)


def curves_of(prepared: PreparedRun, measured: Sequence[Measured]) -> Curves | None:
    """The values of every set; None where the run was stopped too early."""
    if len(measured) < len(prepared.arms):
        return None
    first, *_ = arms = aligned(measured)
    if not len(first.examples):
        return None
    root, name = prepared.spec.settings.root, prepared.metrics[0].name
    values = {str(row.key["set"]): v for m in arms for row, v in zip(m.arm.rows, m.values[name], strict=True)}
    plan = design(root.ablation, prepared.network.shape, root.seed)
    return Curves(prepared, plan, values, first.baseline[name], first.groups)


def areas(curves: Curves, ranking: str, table: pd.DataFrame) -> dict[str, Any]:
    """CPR and CMD by the trapezoid rule over the fractions, with intervals and beside random circuits.

    `table` is that of `analysis.circuit_table` for the ranking. The bounds of CMD are the least and the largest area between 1
    and a curve within the intervals of f, which hold at once.
    """
    x = np.array(curves.plan.fractions)
    sizes = [curves.plan.size(fraction) for fraction in x]
    above = np.array([curves.circuit(ranking, size, "kept") for size in sizes])  # (fractions, n)
    cpr = curves.ratios(np.array([np.trapezoid(above, x, axis=0)]))
    bounds = {name: values[0] for name, values in cpr.columns("ci_low", "ci_high", "shape").items()}
    plain = float(np.trapezoid(np.abs(1 - np.array([curves.point(each) for each in above])), x))
    low, high = table["faithfulness_low"].to_numpy(), table["faithfulness_high"].to_numpy()
    nearest = np.maximum(0.0, np.maximum(low - 1, 1 - high))
    farthest = np.maximum(np.abs(1 - low), np.abs(1 - high))
    ends = {"ci_low": float(np.trapezoid(nearest, x)), "ci_high": float(np.trapezoid(farthest, x))}
    # Random curves: draw i of every size, starting again where a size has fewer.
    null = [curves.randoms(ranking, size, "kept") for size in sizes]
    n = curves.plan.n_random if all(len(f) for f in null) else 0
    random = np.array([[of_size[i % len(of_size)] for of_size in null] for i in range(n)]).reshape(n, len(x))

    def among(own: float, others: Floats) -> dict[str, Any]:
        return {"random_mean": mean_of(others), "n_random": len(others), "percentile": percentile_among(own, others)}

    value = float(cpr.ratio[0])
    of_random = np.trapezoid(np.abs(1 - random), x, axis=1)
    return {
        "cpr": {"value": value, **bounds, **among(value, np.trapezoid(random, x, axis=1))},
        "cmd": {"value": _cmd(curves, above, x), "uncorrected": plain, **ends, **among(plain, of_random)},
    }


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


def mean_of(values: Floats) -> float:
    """The mean; NaN where there is nothing."""
    return float(values.mean()) if len(values) else float("nan")
