"""Faithfulness curves: how much of the behaviour circuits of growing size keep, and how much the model keeps without them.

Both panels share their axes: the share of heads in the circuit (logarithmic) and f, on which 1 is the whole model and 0 the
model with every head replaced. The area under the curve of the first panel is CPR, the area between it and 1 is CMD, both on a
linear axis of shares.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tiny_ablation import formats
from tiny_ablation.document import Figure
from tiny_ablation.document.figures import Line, LinePanel, Lines
from tiny_ablation.run.result import Result

_PANELS = {"faithfulness": "Circuit kept, all other heads replaced", "left": "Circuit replaced, all other heads kept"}


def faithfulness(result: Result) -> Figure:
    """The curves of a run over circuits."""
    circuit = result.summary["circuit"]
    panels = [LinePanel(heading, list(_lines(circuit, key))) for key, heading in _PANELS.items()]
    ends = [np.append(line.y, (0.0, 1.0)) for panel in panels for line in panel.lines]
    low, high = float(np.nanmin(np.concatenate(ends))), float(np.nanmax(np.concatenate(ends)))
    room = 0.12 * (high - low)
    lines = Lines(
        name="faithfulness",
        kind="Faithfulness curves",
        title=result.title,
        note=f"f on {circuit['metric']}: 1 is the whole model, 0 all {circuit['n_heads']} heads replaced "
        f"({circuit['replacement']}); n = {circuit['n_examples']} examples; bands are {result.percent} intervals; open marks: "
        "the interval includes 0",
        x_title="share of heads in the circuit",
        y_title="f: share of the behaviour",
        panels=panels,
        interval=f"{result.percent} interval",
        ticks=tuple(sorted({float(x) for panel in panels for line in panel.lines for x in line.x})),
        logarithmic=True,
        levels=(1.0,),
        span=(low - room, high + room),  # an interval far out is cut off rather than shown at any price
        signed=False,
    )
    return Figure(
        "faithfulness",
        "How much of the behaviour do circuits carry?",
        "Left: only the circuit works; f is 1 for the whole model and 0 with every head replaced. Right: only the circuit "
        "is replaced; a complete circuit leaves nothing. Grey: random circuits with as many heads in each layer.",
        lines,
    )


def _lines(circuit: Mapping[str, Any], key: str) -> Iterator[Line]:
    """The curve of each ranking with its intervals, and that of its random circuits, which has none."""
    for ranking, found in circuit["rankings"].items():
        points = [point for point in found["points"] if point["fraction"] > 0]  # those that a logarithmic axis can show
        x, y, low, high, random = (
            np.array([formats.number(point[name]) for point in points])
            for name in ("fraction", key, f"{key}_low", f"{key}_high", f"random_{key}")
        )
        sizes = [point["size"] for point in points]
        yield Line(f"{ranking} ranking", x, y, low, high, points=[f"{n} heads" for n in sizes])
        yield Line(
            f"random, layers as {ranking}",
            x,
            random,
            *np.full((2, len(x)), np.nan),
            grey=True,
            points=[f"{n} random heads of the same layers" for n in sizes],
        )
