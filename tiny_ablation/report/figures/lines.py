"""Values along an axis as lines with bands, in one panel or several: layer profiles, dose and response.

A band is an interval; a filled mark is a value whose interval excludes 0 (or that has none), an open one holds 0.
Lines differ in dash as well as in colour, so that they can be told apart in print.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from plotly.subplots import make_subplots

from tiny_ablation import formats
from tiny_ablation.report.figures import canvas, fonts, interactive, style

_LEFT, _HEIGHT, _GAP, _BETWEEN, _BOTTOM = 0.85, 2.5, 0.35, 0.75, 0.65  # inches
_PAPER = 9.0  # inches that the panels share
_LEGEND_LINE = 20  # pixels
_MATPLOTLIB = {"solid": "-", "dash": (0, (5, 2)), "dot": (0, (1.2, 1.8)), "dashdot": (0, (5, 2, 1, 2))}


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: in the legend; lines of one name look alike in all panels.
        x: (n,) ascending.
        y: (n,)
        low: (n,) lower ends of the intervals, NaN where there is none.
        high: (n,)
        unsure: (n,) which points are unresolved, where another interval than the shown one says so; None for none.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unsure: np.ndarray | None = None

    @property
    def resolved(self) -> np.ndarray:
        """(n,) whether the interval excludes 0; a point without an interval is drawn as it is."""
        holds_zero = (self.low <= 0) & (self.high >= 0)
        return ~(holds_zero if self.unsure is None else holds_zero | self.unsure)


@dataclass(frozen=True)
class LinePanel:
    """Lines that share axes."""

    name: str
    lines: list[Line]


@dataclass(frozen=True)
class Lines:
    """Everything that both renderings draw.

    Attributes:
        name: identifies the figure in a page.
        kind: what it is, for those who do not see it.
        title: what was done, to what, on what.
        note: examples, and what the bands are.
        x_title: the axis across.
        y_title: the axis up, with the unit.
        panels: all with the same axes.
        legend: above the names of the lines; empty for none.
        interval: what a band is; empty where there is none.
        ticks: where the axis across has ticks; None leaves it to the drawing.
    """

    name: str
    kind: str
    title: str
    note: str
    x_title: str
    y_title: str
    panels: list[LinePanel]
    legend: str = ""
    interval: str = ""
    ticks: tuple[float, ...] | None = None

    @property
    def names(self) -> list[str]:
        """Every line once, in order."""
        return list(dict.fromkeys(line.name for panel in self.panels for line in panel.lines))

    def look(self, name: str) -> tuple[str, str]:
        """The colour and dash of a line."""
        place = self.names.index(name)
        again = place // len(style.CATEGORIES)
        return style.CATEGORIES[place % len(style.CATEGORIES)], style.DASHES[
            (place + again) % len(style.DASHES)
        ]

    def arrange(self) -> tuple[int, int]:
        """Columns and rows of panels."""
        columns = min(2 if len(self.panels) in (2, 4) else 3, len(self.panels))
        return columns, -(-len(self.panels) // columns)


# Static


def static(data: Lines) -> Figure:
    """The lines for print."""
    columns, rows = data.arrange()
    full = 7.2
    top = canvas.header_height(full, data.title, data.note) + 0.25
    width = (full - _LEFT - 0.3 - (columns - 1) * _GAP) / columns
    height = float(np.clip(_PAPER / rows - _BETWEEN, 1.2, _HEIGHT))
    body = rows * height + (rows - 1) * _BETWEEN
    figure = canvas.blank(full, top + body + _BOTTOM + 0.22 * (1 + len(data.names) // 3) + 0.15)
    canvas.header(figure, data.title, data.note)
    first: Axes | None = None
    for i, panel in enumerate(data.panels):
        across, down = i % columns, i // columns
        corner = _LEFT + across * (width + _GAP), top + down * (height + _BETWEEN)
        axes = canvas.add_axes(figure, *corner, width, height)
        first = _share(axes, first)
        _draw(axes, panel, data)
        _label(axes, panel, data, width, left=across == 0, last=i + columns >= len(data.panels))
    _legend(figure, data, top + body + _BOTTOM)
    return figure


def _share(axes: Axes, first: Axes | None) -> Axes:
    if first is None:
        return axes
    axes.sharex(first)
    axes.sharey(first)
    return first


def _draw(axes: Axes, panel: LinePanel, data: Lines) -> None:
    axes.axhline(0.0, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.grid(axis="y", color=style.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    for line in panel.lines:
        colour, dash = data.look(line.name)
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0, zorder=2)
        axes.plot(line.x, line.y, color=colour, linestyle=_MATPLOTLIB[dash], linewidth=1.4, zorder=3)
        for filled, face in ((line.resolved, colour), (~line.resolved, style.PAPER)):
            axes.scatter(
                line.x[filled],
                line.y[filled],
                s=13,
                facecolor=face,
                edgecolor=colour,
                linewidth=0.9,
                zorder=4,
            )


def _label(axes: Axes, panel: LinePanel, data: Lines, width: float, *, left: bool, last: bool) -> None:
    heading = canvas.wrapped(fonts.drawable(panel.name), width)
    axes.set_title(heading, fontsize=style.LABEL_SIZE, loc="left", pad=5)
    if last:  # nothing stands below
        axes.set_xlabel(data.x_title, fontsize=style.LABEL_SIZE)
    axes.tick_params(labelleft=left)
    if data.ticks is not None:
        axes.set_xticks(data.ticks)
    else:  # layers: there is none between two of them
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if left:
        height = axes.get_window_extent().height / style.DPI
        axes.set_ylabel(canvas.wrapped(data.y_title, height + 0.5), fontsize=style.LABEL_SIZE)


def _legend(figure: Figure, data: Lines, top: float) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for name in data.names:
        colour, dash = data.look(name)
        handles.append(Line2D([], [], color=colour, linestyle=_MATPLOTLIB[dash], label=fonts.drawable(name), marker="o",
                              markersize=3.5))  # fmt: skip
    height = figure.get_size_inches()[1]
    if len(handles) > 1 or data.legend:
        figure.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1 - top / height), ncols=3, frameon=False,
            fontsize=style.TICK_SIZE, handlelength=2.6, columnspacing=1.8, title=data.legend or None,
            title_fontsize=style.TICK_SIZE,
        )  # fmt: skip


# Interactive


def page(data: Lines) -> interactive.Interactive:
    """The lines for a page."""
    columns, rows = data.arrange()
    names, lines = interactive.headings([panel.name for panel in data.panels], 170)
    above = 16 * (lines - 1)
    body = rows * (270 + above)
    keys = _LEGEND_LINE * -(-len(data.names) // max(1, 760 // (60 + 7 * max(map(len, data.names))))) + 95
    height = body + keys
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=names, 
        horizontal_spacing=0.04, vertical_spacing=(70 + above) / height if rows > 1 else 0,
    )  # fmt: skip
    figure.update_annotations(font_size=style.WEB_SIZE)
    told: set[str] = set()
    for i, panel in enumerate(data.panels):
        for line in panel.lines:
            for trace in _traces(line, data, first=line.name not in told):
                figure.add_trace(trace, row=i // columns + 1, col=i % columns + 1)
            told.add(line.name)
        if i + columns >= len(data.panels):  # nothing stands below
            figure.update_xaxes(
                title={"text": interactive.safe(data.x_title), "standoff": 6},
                row=i // columns + 1,
                col=i % columns + 1,
            )
    figure.update_layout(
        **interactive.base_layout(height), margin={"l": 75, "r": 15, "t": 30 + above, "b": 60},
        legend={  # below the axes, which give way where it has more lines
            "orientation": "h", "y": -60 / body, "yanchor": "top", "title": {"text": interactive.safe(data.legend)},
        },
        showlegend=len(data.names) > 1,
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, zeroline=False)
    if data.ticks is not None:
        figure.update_xaxes(tickvals=list(data.ticks))
    elif max(np.ptp(line.x) for panel in data.panels for line in panel.lines) < 8:
        figure.update_xaxes(dtick=1)
    for axes, first in ((figure.select_xaxes(), "x"), (figure.select_yaxes(), "y")):
        for axis in list(axes)[1:]:
            axis.update(matches=first)
    figure.update_yaxes(gridcolor=style.LINE, zeroline=True, zerolinecolor=style.MUTED)
    [y_title], _ = interactive.headings([data.y_title], 240)
    figure.update_yaxes(title_text=y_title, col=1)
    return interactive.Interactive(
        name=data.name, figure=figure, min_width=120 + 200 * columns,
        description=f"{data.kind}. {data.title}. {data.x_title} across, {data.y_title} up, "
        f"a line per {data.legend or 'series'}.",
    )  # fmt: skip


def _traces(line: Line, data: Lines, *, first: bool) -> list[go.Scatter]:
    colour, dash = data.look(line.name)
    name = interactive.safe(line.name)
    group: dict[str, Any] = {"legendgroup": name, "name": name}
    drawn = []
    if np.isfinite(line.low).any():
        x, edge = [*line.x, *line.x[::-1]], [*line.high, *line.low[::-1]]
        drawn.append(go.Scatter(
            x=x, y=edge, fill="toself", fillcolor=colour, opacity=0.16, line={"width": 0}, mode="lines", hoverinfo="skip",
            showlegend=False, **group,
        ))  # fmt: skip
    symbols = ["circle" if sure else "circle-open" for sure in line.resolved]
    drawn.append(go.Scatter(
        x=line.x.tolist(), y=line.y.tolist(), mode="lines+markers", line={"color": colour, "dash": dash},
        marker={"color": colour, "size": 6, "symbol": symbols}, showlegend=first, **group,
        text=[_hover(line, data, i) for i in range(len(line.x))], hovertemplate="%{text}<extra></extra>",
    ))  # fmt: skip
    return drawn


def _hover(line: Line, data: Lines, i: int) -> str:
    places = formats.decimals(line.y)
    at = f"<b>{interactive.safe(line.name)}</b><br>{data.x_title} {line.x[i]:g}: {formats.signed(line.y[i], places)}"
    if not np.isfinite(line.low[i]):
        return at
    unsure = "" if line.resolved[i] else "<br><i>unresolved: the interval holds 0</i>"
    return f"{at}<br>{data.interval} {formats.interval(line.low[i], line.high[i], places)}{unsure}"
