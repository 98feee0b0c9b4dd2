"""The forest plot: the strongest sites with their intervals, largest effect first.

Shows the strongest intervention only (the scale farthest from 1), so that a site stands in it once. A filled
mark is an effect whose interval excludes 0, an open one an effect that this run cannot tell from none.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiny_ablation import formats
from tiny_ablation.report import tables, vocabulary
from tiny_ablation.report.figures import canvas, fonts, interactive, style

_LIMIT = 20  # sites
_ROW, _LETTER, _WIDTH, _RIGHT, _BOTTOM = 0.22, 0.072, 3.6, 2.3, 0.95  # inches


@dataclass(frozen=True)
class Forest:
    """The rows to draw, the strongest first, and the words around them."""

    metric: str
    title: str
    note: str
    percent: str
    places: int
    rows: list[dict[str, Any]]


def legend(data: Forest) -> str:
    """What was measured, and how to read a mark."""
    return (
        f"{data.note}. A filled mark is an effect whose interval excludes 0; an open one cannot be told from "
        f"none. {vocabulary.signs(data.metric)}"
    )


def collect(impact: pd.DataFrame, metric: str, title: str, confidence: float) -> Forest:
    """Read the strongest effects, at most 20, off an impact table.

    Args:
        impact: the rows of an impact table of one run, of any kind.
        metric: the metric to show.
        title: what was done, to what, on what.
        confidence: of the intervals in `impact`.

    Raises:
        ResultsError: the table has no effect on `metric`.
    """
    found = tables.effects(impact, metric)
    scale = tables.scales(found)[0]
    found = tables.at_scale(found, scale)
    shown = tables.strongest(found, _LIMIT)
    index = tables.index_columns(impact)
    percent, places = formats.percent(confidence), formats.decimals(shown["delta"])
    rows = [
        {**row, "label": tables.label(row, index), "site": tables.label(row, index, sentence=True)}
        for row in shown.to_dict("records")
    ]
    at = "" if scale is None else f" at scale {scale:g}"
    many = f"{len(shown)} strongest of {len(found)}" if len(shown) < len(found) else f"all {len(found)}"
    note = f"{many} {vocabulary.noun(index, len(found))}{at}; {tables.examples(shown)}; bars are {percent} intervals"
    return Forest(metric, title, note, percent, places, rows)


def _colour(row: dict[str, Any]) -> str:
    if not row["resolved"]:
        return style.UNRESOLVED
    return style.BELOW if row["delta"] < 0 else style.ABOVE


def _bars(row: dict[str, Any]) -> tuple[float, float]:
    """How far the interval reaches below and above the mean (a bootstrap interval is not symmetric)."""
    return max(0.0, row["delta"] - row["ci_low"]), max(0.0, row["ci_high"] - row["delta"])


def static(data: Forest) -> Figure:
    """The forest plot for print."""
    body = _ROW * max(4, len(data.rows))
    left = max(1.35, 0.3 + _LETTER * max(len(row["label"]) for row in data.rows))
    full = left + _WIDTH + _RIGHT
    top = canvas.header_height(full, data.title, data.note) + 0.1
    figure = canvas.blank(full, top + body + _BOTTOM)
    canvas.header(figure, data.title, data.note)
    axes = canvas.add_axes(figure, left, top, _WIDTH, body)
    axes.axvline(0.0, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.grid(axis="x", color=style.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    for y, row in enumerate(data.rows):
        _draw_row(axes, y, row, data.places)
    axes.set_ylim(len(data.rows) - 0.4, -0.6)
    axes.margins(x=0.06)
    labels = [fonts.drawable(row["label"]) for row in data.rows]
    axes.set_yticks(range(len(data.rows)), labels=labels, fontsize=style.TICK_SIZE)
    axes.set_xlabel(vocabulary.change_label(data.metric), fontsize=style.LABEL_SIZE, labelpad=6)
    marks = "filled: interval excludes 0    open: interval holds 0, unresolved"
    where = left + _WIDTH / 2, top + body + 0.58
    canvas.write(figure, *where, marks, ha="center", fontsize=style.TICK_SIZE, color=style.MUTED)
    return figure


def _draw_row(axes: Axes, y: int, row: dict[str, Any], places: int) -> None:
    colour, (below, above) = _colour(row), _bars(row)
    axes.errorbar(
        row["delta"],
        y,
        xerr=[[below], [above]],
        color=colour,
        marker="o",
        markersize=4.5,
        markerfacecolor=colour if row["resolved"] else style.PAPER,
        elinewidth=1.4,
        zorder=3,
    )
    numbers = (
        f"{formats.signed(row['delta'], places)} {formats.interval(row['ci_low'], row['ci_high'], places)}"
    )
    beside = {"transform": axes.get_yaxis_transform(), "va": "center", "family": style.NUMBER_FONT}
    axes.text(1.04, y, numbers, fontsize=style.TICK_SIZE - 0.5, color=style.MUTED, **beside)


def page(data: Forest) -> interactive.Interactive:
    """The forest plot for a page."""
    figure = go.Figure([_trace(row, place, data) for place, row in enumerate(data.rows)])
    figure.update_layout(
        **interactive.base_layout(110 + 24 * len(data.rows)),
        margin={"l": 30 + 7 * max(len(row["label"]) for row in data.rows), "r": 20, "t": 10, "b": 60},
        showlegend=False,
    )
    axis_title = interactive.safe(vocabulary.change_label(data.metric))
    figure.update_xaxes(title_text=axis_title, zeroline=True, zerolinecolor=style.MUTED, gridcolor=style.LINE)
    labels = [interactive.safe(row["label"]) for row in data.rows]
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6], showgrid=False,
        zeroline=False,
    )  # fmt: skip
    return interactive.Interactive(
        name=f"forest-{data.metric}",
        figure=figure,
        description=f"Forest plot. {data.title}. {vocabulary.change_label(data.metric)}; {data.note}.",
        min_width=360,
    )


def _trace(row: dict[str, Any], place: int, data: Forest) -> go.Scatter:
    colour, (below, above) = _colour(row), _bars(row)
    return go.Scatter(
        x=[row["delta"]],
        y=[place],
        mode="markers",
        text=[interactive.safe(row["site"])],
        customdata=[tables.hover_numbers(row, data.places)],
        hovertemplate=tables.hover_template(data.percent, resolved=row["resolved"], site="%{text}"),
        marker={"size": 8, "color": colour, "symbol": "circle" if row["resolved"] else "circle-open"},
        error_x={
            "type": "data", "symmetric": False, "array": [above], "arrayminus": [below],
            "color": colour, "thickness": 2, "width": 0,
        },
    )  # fmt: skip
