"""The part of a run that is computed again, and both results side by side.

The reference shares no batching, masks, hooks, attention code or weights in memory with the engine. It costs at most `PATIENCE`
times `verify.n_sites` x `verify.n_examples` runs of the model on one prompt, however many arms and draws a run has.

The values that mean ablation and noise put in are taken as given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from tiny_ablation.config.schema import DType, RootConfig, Span, VerifyMode
from tiny_ablation.config.seeds import generator
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.reference import Cell, Reference
from tiny_ablation.metrics.readout import NUMERICAL_TOLERANCE, Metric
from tiny_ablation.models.labels import site_label
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import Row
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.verify.verdict import Compared

# With several arms (directions, random controls) each one looked at has its strongest, weakest and a random site computed.
FEWEST = 3
# How many times n_sites x n_examples runs of the model are made at most: room for a few arms, and for rows of several draws.
PATIENCE = 5


@dataclass(frozen=True)
class Slice:
    """The part of an arm that is computed again."""

    measured: Measured
    rows: Sequence[int]  # of the arm: strongest, weakest and random ones
    examples: Sequence[int]  # of the finished examples: the shortest, the longest, the last and random ones
    metrics: Sequence[Metric]
    compared: dict[str, Compared]  # by metric
    near: Any = None  # (1 + n_sites, n_examples) bool: a router was so near a tie that rounding may choose other experts

    @property
    def labels(self) -> list[str]:
        """What each row of `compared` is, in words."""
        return ["the baseline", *(label(self.measured.arm.rows[i]) for i in self.rows)]

    @property
    def names(self) -> list[str]:
        """The ids of the examples."""
        return [self.measured.arm.prompts[int(self.measured.examples[i])].name for i in self.examples]


def resolve_mode(mode: VerifyMode, device: str, *, placed: bool = False) -> VerifyMode:
    """What `auto` means for a run on `device`: double precision on a CPU; single on others, and for a `placed` model."""
    if mode is not VerifyMode.auto:
        return mode
    return VerifyMode.float64 if device == "cpu" and not placed else VerifyMode.cpu


def slices(prepared: PreparedRun, measured: Sequence[Measured], models: Mapping[int, Bare], dtype: DType) -> list[Slice]:
    """A slice of every chosen arm, computed again by `models` (`dtype`), which stand by the `id` of the network they judge."""
    root = prepared.spec.settings.root
    tolerance = max(NUMERICAL_TOLERANCE[root.device.dtype], NUMERICAL_TOLERANCE[dtype])
    out = []
    for part in plan(measured, prepared.metrics, root):
        cells = _cells_again(prepared, part, models)
        # Floors are for logits of size 10, and a lead of a router is told relative to its logits.
        near = _table(cells, lambda cell: cell.router <= tolerance / 10) > 0
        part = replace(part, near=near)
        part.compared.update({m.name: _compared(m, part, cells, tolerance) for m in prepared.metrics})
        out.append(part)
    return out


def plan(measured: Sequence[Measured], metrics: Sequence[Metric], root: RootConfig) -> list[Slice]:
    """Which rows and examples of which arms are computed again."""
    n_sites, n_examples = root.verify.n_sites, root.verify.n_examples
    with_rows = [i for i, m in enumerate(measured) if any(row.runs for row in m.arm.rows)]
    share = None if n_sites is None else max(min(FEWEST, n_sites), n_sites // max(1, len(with_rows)))
    runs = None if n_sites is None or n_examples is None else PATIENCE * n_sites * n_examples
    if share is not None and runs is not None and n_examples is not None:
        # Of many arms some, drawn by the seed, and always the first, which has what was asked for.
        most = max(1, runs // (share * n_examples))
        drawn = generator(root.seed, "verify", "arms").permutation(with_rows[1:]).tolist()
        with_rows = sorted([*with_rows[:1], *drawn[: most - 1]])
        runs //= max(1, len(with_rows))
    out = []
    for i, arm in enumerate(measured):
        if i not in with_rows and any(row.runs for row in arm.arm.rows):
            continue
        costs = {row: len(arm.arm.rows[row].runs) for row in choose(arm, metrics[0].name, share, root, i)}
        # As few rows, then as few examples, as the arm's part of the runs allows.
        while runs is not None and len(costs) > 1 and sum(costs.values()) > runs:
            costs.popitem()
        n = n_examples
        if n is not None and runs is not None and costs:
            n = max(1, min(n, runs // sum(costs.values())))
        out.append(Slice(arm, list(costs), _examples(arm, n, root), metrics, {}))
    return out


def _examples(measured: Measured, n: int | None, root: RootConfig) -> list[int]:
    """Ascending; where lengths differ both ends are there, for passes of mixed lengths have faults of their own."""
    total = len(measured.examples)
    if n is None or n >= total:
        return list(range(total))
    lengths = [len(measured.arm.prompts[int(i)].ids) for i in measured.examples]
    by_length = sorted(range(total), key=lambda i: (lengths[i], i))
    drawn = generator(root.seed, "verify", "examples").permutation(total).tolist()
    # The last ones of a run are computed when all that could go stale has been used.
    return sorted(list(dict.fromkeys([total - 1, by_length[0], by_length[-1], *drawn]))[:n])


def choose(measured: Measured, name: str, n: int | None, root: RootConfig, arm: int = 0) -> list[int]:
    """Rows from the top, the bottom and at random by the size of their effect, ascending; `n` is None for all."""
    ran = [i for i, row in enumerate(measured.arm.rows) if row.runs]
    if n is None or n >= len(ran):
        return ran
    effect = np.abs(measured.mean_delta(name))
    by_size = sorted(ran, key=lambda i: (-effect[i], i))
    third = max(1, n // 3)
    # A dict, for its order: of few sites the strongest are kept.
    rows = dict.fromkeys([*by_size[:third], *by_size[len(by_size) - third :]])
    drawn = generator(root.seed, "verify", arm).permutation(by_size).tolist()
    return sorted(list(rows | dict.fromkeys(drawn))[:n])


def _cells_again(prepared: PreparedRun, part: Slice, models: Mapping[int, Bare]) -> list[list[list[Cell]]]:
    """For each row (the baseline first) and example, a cell for each of its draws."""
    full = prepared.spec.settings.root.metrics.span is Span.full
    arm = part.measured.arm
    model = models[id(arm.network or prepared.network)]
    reference = Reference(model, arm.prompts, prepared.metrics, full, arm.base_intervention, prepared.decoding, models)
    runs = [(None,), *(arm.rows[i].runs for i in part.rows)]
    flat = [run for of_row in runs for run in of_row]
    columns = [reference.cells(flat, int(part.measured.examples[i])) for i in part.examples]
    starts = np.cumsum([0, *map(len, runs)])
    return [[column[start:end] for column in columns] for start, end in pairwise(starts)]


def _compared(metric: Metric, part: Slice, cells: list[list[list[Cell]]], tolerance: float) -> Compared:
    """Both results of one metric; a change of decisions that tie, of answers or of experts, is no difference."""
    measured, columns = part.measured, list(part.examples)
    main = np.vstack([measured.baseline[metric.name][None, columns], measured.values[metric.name][list(part.rows)][:, columns]])
    again = _table(cells, lambda cell: cell.values[metric.name])
    ties = _table(cells, lambda cell: cell.margin <= 2 * tolerance)
    slack = ties if metric.decides else np.zeros_like(main)
    if metric.span == "text":  # all that follows may be another text, and have any value
        slack = np.where(ties > 0, np.inf, 0.0)
    slack = slack if part.near is None else np.where(part.near, np.inf, slack)
    # A probability p moves by at most p (1 - p) for each logit that the logits of two tokens move apart.
    floor = tolerance / 2 if metric.unit == "probability" else tolerance
    return Compared(main, again, slack, floor)


def _table(cells: list[list[list[Cell]]], of: Any) -> Any:
    """(rows, examples): a number of each cell, mean over its draws."""
    return np.array([[np.mean([of(cell) for cell in draws]) for draws in row] for row in cells], dtype=float)


def label(row: Row) -> str:
    """What a row is about, in words, such as `L3H1 scale 0`."""
    scale = f" scale {row.key['scale']:g}" if "scale" in row.key else ""
    return f"{site_label(row.key)}{scale}{f' ({row.sites})' if row.sites else ''}"
