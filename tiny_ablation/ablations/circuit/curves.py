"""The primary metric of every circuit of a run, on one scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tiny_ablation.ablations.circuit.design import EMPTY, Design, design, set_name
from tiny_ablation.config.seeds import generator
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.clusters import Floats, cluster_sums
from tiny_ablation.stats.ratios import Ratios, ratio_of_means
from tiny_ablation.stats.simultaneous import critical_value


@dataclass(frozen=True)
class Curves:
    """The primary metric of every circuit, on the examples that all arms finished.

    Attributes:
        prepared: the run.
        plan: which circuits.
        values: for each set (n,).
        full: (n,) the un-intervened run.
        groups: (n,) the cluster of each example.
    """

    prepared: PreparedRun
    plan: Design
    values: dict[str, Floats]
    full: Floats
    groups: Sequence[str]

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


def mean_of(values: Floats) -> float:
    """The mean; NaN where there is nothing."""
    return float(values.mean()) if len(values) else float("nan")
