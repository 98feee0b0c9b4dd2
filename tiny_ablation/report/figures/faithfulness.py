"""Faithfulness curves: how much of the behaviour circuits of growing size keep, and how much is left without them.

Both panels share their axes: the share of heads in the circuit (logarithmic) and f, on which 1 is the whole model and 0 the
model with every head replaced. The area under the curve of the first panel is CPR, the area between it and 1 is CMD, both on a
linear axis of shares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from tiny_ablation import formats
from tiny_ablation.report.figures import canvas, fonts, interactive, style
from tiny_ablation.report.figures.source import RunSource

_LEFT, _PANEL, _GAP, _BODY, _BOTTOM, _RIGHT = 0.75, 3.1, 0.55, 2.5, 1.05, 0.35  # inches
_PANELS = (
    ("faithfulness", "Circuit kept, all other heads replaced"),
    ("left", "Circuit replaced, all other heads kept"),
)
_MARKS = (("o", "circle", "-", "solid"), ("s", "square-open", "--", "dash"))
_X, _Y = "share of heads in the circuit", "f: share of the behaviour"


class _Line(NamedTuple):
    """One curve with its intervals; random circuits have none."""

    name: str
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]
    hover: list[str]


@dataclass(frozen=True)
class Curves:
    """Everything that both renderings draw.

    Attributes:
        circuit: `circuit` of `metrics/summary.json`.
        title: what was done, to what, on what.
        note: what f is, of how many examples, and what the bars are.
    """

    circuit: Mapping[str, Any]
    title: str
    note: str


def collect(source: RunSource) -> Curves:
    """The curves of a run over circuits."""
    circuit = source.summary["circuit"]
    return Curves(circuit, source.title, _note(circuit, source.confidence))


def page(data: Curves) -> interactive.Interactive:
    """The interactive curves, to be put into a page."""
    circuit = data.circuit
    figure = make_subplots(
        1, 2, shared_yaxes=True, subplot_titles=[heading for _, heading in _PANELS], horizontal_spacing=0.06
    )
    for column, (key, _) in enumerate(_PANELS, start=1):
        for i, ranking in enumerate(circuit["rankings"]):
            _add(figure, _line(circuit, ranking, key), i, column)
            _add(figure, _random(circuit, ranking, key), i, column, random=True)
    figure.update_layout(
        **interactive.base_layout(420), margin={"l": 60, "r": 20, "t": 40, "b": 60},
        legend={"orientation": "h", "y": -0.22},
    )  # fmt: skip
    shares = _shares(circuit)
    figure.update_xaxes(
        type="log",
        title_text=_X,
        gridcolor=style.LINE,
        tickvals=shares,
        ticktext=[f"{share:g}" for share in shares],
    )
    figure.update_yaxes(gridcolor=style.LINE, zeroline=True, zerolinecolor=style.MUTED)
    figure.update_yaxes(title_text=_Y, col=1)
    return interactive.Interactive(
        name="faithfulness",
        figure=figure,
        description=f"Faithfulness curves. {data.title}. {data.note}",
        min_width=640,
    )


def _note(circuit: Mapping[str, Any], confidence: float) -> str:
    return (
        f"f on {circuit['metric']}: 1 is the whole model, 0 all {circuit['n_heads']} heads replaced "
        f"({circuit['replacement']}); n = {circuit['n_examples']} examples; bars are {formats.percent(confidence)} intervals"
    )


def _points(circuit: Mapping[str, Any], ranking: str) -> Sequence[Mapping[str, Any]]:
    """The points of a ranking that a logarithmic axis can show."""
    return [point for point in circuit["rankings"][ranking]["points"] if point["fraction"] > 0]


def _shares(circuit: Mapping[str, Any]) -> list[float]:
    """Of all points, where the axis across has its ticks."""
    return sorted(
        {point["fraction"] for ranking in circuit["rankings"] for point in _points(circuit, ranking)}
    )


def _line(circuit: Mapping[str, Any], ranking: str, key: str) -> _Line:
    points = _points(circuit, ranking)
    values, low, high = (
        [formats.number(point[name]) for point in points] for name in (key, f"{key}_low", f"{key}_high")
    )
    hover = [
        f"{p['size']} heads: {formats.plain(v, 3)} {formats.bounds(a, b, 3)}"
        for p, v, a, b in zip(points, values, low, high, strict=True)
    ]
    return _Line(f"{ranking} ranking", [p["fraction"] for p in points], values, low, high, hover)


def _random(circuit: Mapping[str, Any], ranking: str, key: str) -> _Line:
    points = _points(circuit, ranking)
    values = [formats.number(point[f"random_{key}"]) for point in points]
    hover = [
        f"{p['size']} random heads of the same layers: {formats.plain(v, 3)}"
        for p, v in zip(points, values, strict=True)
    ]
    return _Line(f"random, layers as {ranking}", [p["fraction"] for p in points], values, [], [], hover)


def static(data: Curves) -> Figure:
    """The curves for print."""
    width = _LEFT + 2 * _PANEL + _GAP + _RIGHT
    top = canvas.header_height(width, data.title, data.note) + 0.35
    figure = canvas.blank(width, top + _BODY + _BOTTOM)
    canvas.header(figure, data.title, data.note)
    for column, (key, heading) in enumerate(_PANELS):
        left = _LEFT + column * (_PANEL + _GAP)
        axes = canvas.add_axes(figure, left, top, _PANEL, _BODY)
        canvas.write(figure, left, top - 0.26, heading)
        _draw_panel(axes, data.circuit, key)
        if column:
            axes.set_yticklabels([])
        else:
            axes.set_ylabel(_Y, fontsize=style.LABEL_SIZE, labelpad=6)
            axes.legend(
                loc="upper left", bbox_to_anchor=(0.0, -0.2), ncols=4, frameon=False, fontsize=style.TICK_SIZE,
                labelcolor=style.INK, handlelength=2.6,
            )  # fmt: skip
    return figure


def _draw_panel(axes: Axes, circuit: Mapping[str, Any], key: str) -> None:
    for y in (0.0, 1.0):
        axes.axhline(y, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.grid(color=style.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    for i, ranking in enumerate(circuit["rankings"]):
        _draw_line(axes, _random(circuit, ranking, key), i, style.UNRESOLVED)
        _draw_line(axes, _line(circuit, ranking, key), i, style.INK)
    axes.set_xscale("log")
    axes.set_ylim(*_limits(circuit))
    shares = _shares(circuit)
    axes.set_xticks(shares, labels=[f"{share:g}".lstrip("0") for share in shares])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(_X, fontsize=style.LABEL_SIZE, labelpad=4)


def _limits(circuit: Mapping[str, Any]) -> tuple[float, float]:
    """Of f in both panels, so that they can be compared; an interval far out is cut off rather than shown at any price."""
    names = ("faithfulness", "left", "random_faithfulness", "random_left")
    values = [
        formats.number(p[name]) for r in circuit["rankings"] for p in _points(circuit, r) for name in names
    ]
    known = [value for value in values if value == value] or [0.0, 1.0]
    low, high = min(0.0, *known), max(1.0, *known)
    return low - 0.12 * (high - low), high + 0.12 * (high - low)


def _draw_line(axes: Axes, line: _Line, place: int, colour: str) -> None:
    mark, _, dashes, _ = _MARKS[place]
    bars = None
    if line.low:
        bars = [[max(0.0, v - a) for v, a in zip(line.y, line.low, strict=True)],
                [max(0.0, b - v) for v, b in zip(line.y, line.high, strict=True)]]  # fmt: skip
    axes.errorbar(
        line.x, line.y, yerr=bars, color=colour, linestyle=dashes, linewidth=1.3, marker=mark, markersize=4, elinewidth=1.0,
        markerfacecolor=style.PAPER if place else colour, label=fonts.drawable(line.name), zorder=3,
    )  # fmt: skip


def _add(figure: go.Figure, line: _Line, place: int, column: int, *, random: bool = False) -> None:
    _, symbol, _, dash = _MARKS[place]
    colour = style.UNRESOLVED if random else style.INK
    bars = {
        "type": "data", "symmetric": False, "thickness": 1.2, "width": 0, "color": colour,
        "array": [max(0.0, b - v) for v, b in zip(line.y, line.high, strict=True)],
        "arrayminus": [max(0.0, v - a) for v, a in zip(line.y, line.low, strict=True)],
    } if line.low else None  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=line.x, y=line.y, mode="lines+markers", name=interactive.safe(line.name), legendgroup=line.name,
            showlegend=column == 1, text=line.hover, hovertemplate="<b>%{fullData.name}</b><br>%{text}<extra></extra>",
            line={"color": colour, "dash": dash, "width": 1.8}, marker={"size": 7, "color": colour, "symbol": symbol},
            error_y=bars,
        ),
        row=1, col=column,
    )  # fmt: skip
