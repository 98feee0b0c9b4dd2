"""The part of a run that is computed again, and both results side by side.

`float64` runs the plain reference (the bare model, one prompt at a time, hooks of its own) in double precision, `cpu` in float32,
both on the CPU. They share no batching, masks, hooks or attention code with the engine. The weights are converted in place for
the time it takes, and the clean prompt is run once for all sites.

What is taken as given: the weights in memory, and the values that mean ablation and noise put in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tiny_ablation.config.schema import DType, RootConfig, Span, VerifyMode
from tiny_ablation.config.seeds import generator
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.precision import FLOORS
from tiny_ablation.engine.reference import Cell, Reference
from tiny_ablation.interventions.measure import Measured
from tiny_ablation.interventions.plan import Row
from tiny_ablation.interventions.prepare import Prepared
from tiny_ablation.metrics.readout import Metric
from tiny_ablation.verify.verdict import Compared

# With several legs (directions, random controls) each has at least its strongest, weakest and one random site looked at.
FEWEST = 3


@dataclass(frozen=True)
class Slice:
    """The part of a leg that is computed again.

    Attributes:
        measured: the leg's results.
        rows: indices of rows: strongest, weakest and random ones.
        examples: indices into the finished examples: the last ones.
        metrics: what was measured.
        compared: both results, by metric.
    """

    measured: Measured
    rows: Sequence[int]
    examples: Sequence[int]
    metrics: Sequence[Metric]
    compared: dict[str, Compared]

    @property
    def labels(self) -> list[str]:
        """What each row of `compared` is, in words."""
        return ["the baseline", *(label(self.measured.leg.rows[i]) for i in self.rows)]

    @property
    def names(self) -> list[str]:
        """The ids of the examples."""
        return [self.measured.leg.prompts[int(self.measured.examples[i])].name for i in self.examples]


def resolve_mode(mode: VerifyMode, device: str) -> VerifyMode:
    """What `auto` means on this device: the CPU for an accelerator, double precision for a CPU."""
    if mode is not VerifyMode.auto:
        return mode
    return VerifyMode.float64 if device == "cpu" else VerifyMode.cpu


def precision(mode: VerifyMode) -> DType:
    """The precision of the reference."""
    return DType.float64 if mode is VerifyMode.float64 else DType.float32


def slices(prepared: Prepared, measured: Sequence[Measured], mode: VerifyMode) -> list[Slice]:
    """A slice of every leg, computed again; the network is already where it is computed."""
    root = prepared.light.settings.root
    with_rows = sum(any(row.runs for row in m.leg.rows) for m in measured)
    share = None if root.verify.n_sites is None else _share(root.verify.n_sites, with_rows)
    tolerance = max(FLOORS[root.device.dtype], FLOORS[precision(mode)])
    return [
        _slice(prepared, m, choose(m, prepared.metrics[0].name, share, root, index), tolerance)
        for index, m in enumerate(measured)
    ]


def _share(n_sites: int, legs: int) -> int:
    return max(min(FEWEST, n_sites), n_sites // max(1, legs))


def _slice(prepared: Prepared, measured: Measured, rows: list[int], tolerance: float) -> Slice:
    root = prepared.light.settings.root
    n = len(measured.examples)
    examples = range(n - min(root.verify.n_examples or n, n), n)
    part = Slice(measured, rows, examples, prepared.metrics, {})
    cells = _cells_again(prepared, part, root.metrics.span is Span.full)
    for metric in prepared.metrics:
        part.compared[metric.name] = _compared(metric, part, cells, tolerance)
    return part


def choose(measured: Measured, name: str, n: int | None, root: RootConfig, leg: int = 0) -> list[int]:
    """Rows from the top, the bottom and at random by the size of their effect, ascending; `n` is None for all."""
    ran = [i for i, row in enumerate(measured.leg.rows) if row.runs]
    if n is None or n >= len(ran):
        return ran
    effect = np.abs((measured.values[name] - measured.baseline[name]).mean(1))
    by_size = sorted(ran, key=lambda i: (-effect[i], i))
    third = max(1, n // 3)
    # A dict, for its order: of few sites the strongest are kept.
    rows = dict.fromkeys([*by_size[:third], *by_size[len(by_size) - third :]])
    drawn = generator(root.seed, "verify", leg).permutation(by_size).tolist()
    return sorted(list(rows | dict.fromkeys(drawn))[:n])


def _cells_again(prepared: Prepared, part: Slice, full: bool) -> list[list[list[Cell]]]:
    """For each row (the baseline first) and example, a cell for each of its draws."""
    leg = part.measured.leg
    reference = Reference(Bare(prepared.network.hf), leg.prompts, prepared.metrics, full, leg.under)
    runs = [(None,), *(leg.rows[i].runs for i in part.rows)]
    flat = [run for of_row in runs for run in of_row]
    columns = [reference.cells(flat, int(part.measured.examples[i])) for i in part.examples]
    starts = np.cumsum([0, *map(len, runs)])
    return [[column[start:end] for column in columns] for start, end in pairwise(starts)]


def _compared(metric: Metric, part: Slice, cells: list[list[list[Cell]]], tolerance: float) -> Compared:
    """Both results of one metric; a change of two decisions that tie is no difference."""
    measured, columns = part.measured, list(part.examples)
    main = np.vstack([
        measured.baseline[metric.name][None, columns], measured.values[metric.name][list(part.rows)][:, columns]
    ])  # fmt: skip
    again = _table(cells, lambda cell: cell.values[metric.name])
    ties = _table(cells, lambda cell: cell.margin <= 2 * tolerance)
    slack = ties if metric.decides else np.zeros_like(main)
    # A probability p moves by at most p (1 - p) for each logit that the logits of two tokens move apart.
    floor = tolerance / 2 if metric.unit == "probability" else tolerance
    return Compared(main, again, slack, floor)


def _table(cells: list[list[list[Cell]]], of: Any) -> Any:
    """(rows, examples): a number of each cell, mean over its draws."""
    return np.array([[np.mean([of(cell) for cell in draws]) for draws in row] for row in cells], dtype=float)


def label(row: Row) -> str:
    """What a row is about, in words, such as `layer 3 head 1 scale 0`."""
    return " ".join(_words(row))


def _words(row: Row) -> Iterator[str]:
    for name, value in row.key.items():
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        yield f"{name.replace('_', ' ')} {shown}"
    if row.sites:
        yield f"({row.sites})"
