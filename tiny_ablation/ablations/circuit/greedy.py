"""The smallest circuit that an exact greedy search finds among the first heads of a ranking.

The search starts from the shortest beginning of the ranking that carries the behaviour, and takes out one head after the other:
each time all members are tried, each by a run of the model without it, and the one goes whose absence leaves f nearest to 1, as
long as f stays within the margin. So no member of what is left can be taken out alone: the circuit is minimal in this sense, on
the examples that were searched on. Those are not evaluated; what the circuit does on the evaluated ones confirms it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tiny_ablation.ablations.circuit.design import Minimal, carries
from tiny_ablation.ablations.shared.sites import Head
from tiny_ablation.engine.edits import Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.network import Network


@dataclass
class Search:
    """Searches on one set of prompts."""

    network: Network
    prompts: Sequence[Prompt]  # the prompts that are searched on
    metric: str  # the primary metric
    full: bool  # whether whole answers are scored
    # the intervention that keeps these heads and replaces all others; None where there are no others
    keep: Callable[[Sequence[Head]], Intervention | None]

    def __post_init__(self) -> None:
        self.runs = 0
        self._ends: tuple[float, float] | None = None  # the metric with no head kept, and of the whole model

    def minimal(self, order: Sequence[Head], most: int) -> Minimal:
        """The circuit among the first `most` of the heads in `order`."""
        before = self.runs
        beginnings = [list(order[: n + 1]) for n in range(min(most, len(order)))]
        carrying = ((heads, f) for heads, f in zip(beginnings, self.f(beginnings), strict=True) if carries(f, f))
        heads, value = next(carrying, ([], None))
        start = len(heads)
        while len(heads) > 1:
            without = [[other for other in heads if other != head] for head in heads]
            found = self.f(without)
            best = min(range(len(found)), key=lambda i: abs(found[i] - 1))
            if not carries(found[best], found[best]):
                break
            heads, value = without[best], found[best]
        return Minimal(tuple(sorted(heads)), value, start, self.runs - before)

    def f(self, circuits: Sequence[Sequence[Head]]) -> list[float]:
        """The f of each circuit, a ratio of means over the prompts."""
        if self._ends is None:
            empty, whole = self._means([()])
            self._ends = empty, whole
        empty, whole = self._ends
        return [(mean - empty) / (whole - empty) if whole - empty else float("nan") for mean in self._means(circuits)[:-1]]

    def _means(self, circuits: Sequence[Sequence[Head]]) -> list[float]:
        """The mean of the metric with each circuit kept, and last that of the model."""
        plan = [self.keep(heads) for heads in circuits]
        runs = [each for each in plan if each is not None]
        executor = Executor(self.network, self.prompts, runs, [metric(self.metric)], full=self.full)
        total, base, n = [0.0] * len(runs), 0.0, 0
        for result in executor:
            values: Any = result.values[self.metric].double().sum(-1).tolist()
            total = [a + b for a, b in zip(total, values, strict=True)]
            base += float(result.baseline[self.metric].double().sum())
            n += len(result.examples)
        self.runs += len(runs)
        means = iter(each / n for each in total)
        return [*(base / n if each is None else next(means) for each in plan), base / n]
