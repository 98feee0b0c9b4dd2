"""Values along an axis as lines with bands, in one panel or several: layer profiles, dose and response.

A band is an interval; a filled mark is a value whose interval excludes 0 (or that has none), an open one includes 0.
Lines differ in dash as well as in colour, so that they can be told apart in print.
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from plotly.subplots import make_subplots

from tiny_ablation import formats
from tiny_ablation.document.figures import Line, LinePanel, Lines
from tiny_ablation.report.figures import canvas, fonts, interactive, style

_LEFT, _HEIGHT, _GAP, _BETWEEN, _BOTTOM = 0.85, 2.5, 0.35, 0.75, 0.65  # inches
_PAPER = 9.0  # inches that the panels share
_LEGEND_LINE = 20  # pixels
_MATPLOTLIB = {"solid": "-", "dash": (0, (5, 2)), "dot": (0, (1.2, 1.8)), "dashdot": (0, (5, 2, 1, 2))}


def look(data: Lines, name: str) -> tuple[str, str]:
    """The colour and dash of a line; of a grey one the dash of its place among the grey ones."""
    grey = {line.name for panel in data.panels for line in panel.lines if line.grey}
    place = [each for each in data.names if (each in grey) == (name in grey)].index(name)
    again = place // len(style.CATEGORIES)
    dash = style.DASHES[(place + again) % len(style.DASHES)]
    return style.UNRESOLVED if name in grey else style.CATEGORIES[place % len(style.CATEGORIES)], dash


def _arrange(data: Lines) -> tuple[int, int]:
    """Columns and rows of panels."""
    columns = min(2 if len(data.panels) in (2, 4) else 3, len(data.panels))
    return columns, -(-len(data.panels) // columns)


# Static


def static(data: Lines) -> Figure:
    """The lines for print."""
    columns, rows = _arrange(data)
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
        if first is None:
            first = axes
        else:
            axes.sharex(first)
            axes.sharey(first)
        _draw(axes, panel, data)
        _label(axes, panel, data, width, left=across == 0, last=i + columns >= len(data.panels))
    handles = []
    for name in data.names:
        colour, dash = look(data, name)
        drawn = {"color": colour, "linestyle": _MATPLOTLIB[dash], "marker": "o", "markersize": 3.5}
        handles.append(Line2D([], [], label=fonts.drawable(name), **drawn))
    if len(handles) > 1 or data.legend:
        below = 1 - (top + body + _BOTTOM) / figure.get_size_inches()[1]
        place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, below), "ncols": 3, "frameon": False}
        size: dict[str, Any] = {"fontsize": style.TICK_SIZE, "title_fontsize": style.TICK_SIZE, "handlelength": 2.6}
        figure.legend(handles=handles, title=data.legend or None, columnspacing=1.8, **place, **size)
    return figure


def _draw(axes: Axes, panel: LinePanel, data: Lines) -> None:
    for level in (0.0, *data.levels):
        axes.axhline(level, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.grid(axis="y", color=style.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    for line in panel.lines:
        colour, dash = look(data, line.name)
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0, zorder=2)
        axes.plot(line.x, line.y, color=colour, linestyle=_MATPLOTLIB[dash], linewidth=1.4, zorder=3)
        for filled, face in ((line.resolved, colour), (~line.resolved, style.PAPER)):
            axes.scatter(line.x[filled], line.y[filled], s=13, facecolor=face, edgecolor=colour, linewidth=0.9, zorder=4)


def _label(axes: Axes, panel: LinePanel, data: Lines, width: float, *, left: bool, last: bool) -> None:
    heading = canvas.wrapped(fonts.drawable(panel.name), width)
    axes.set_title(heading, fontsize=style.LABEL_SIZE, loc="left", pad=5)
    if last:  # nothing stands below
        axes.set_xlabel(data.x_title, fontsize=style.LABEL_SIZE)
    axes.tick_params(labelleft=left)
    if data.logarithmic:
        axes.set_xscale("log")
        axes.set_xticks([], minor=True)
    if data.span is not None:
        axes.set_ylim(*data.span)
    if data.labelled is not None:
        axes.set_xticks(data.labelled, [f"{tick:g}" for tick in data.labelled])
    else:  # layers, which are whole numbers
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if left:
        height = axes.get_window_extent().height / style.DPI
        axes.set_ylabel(canvas.wrapped(data.y_title, height + 0.5), fontsize=style.LABEL_SIZE)


# Interactive


def page(data: Lines) -> interactive.Interactive:
    """The lines for a page."""
    columns, rows = _arrange(data)
    names, lines = interactive.headings([panel.name for panel in data.panels], 170)
    above = 16 * (lines - 1)
    body = rows * (270 + above)
    keys = _LEGEND_LINE * -(-len(data.names) // max(1, 760 // (60 + 7 * max(map(len, data.names))))) + 95
    height = body + keys
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=names,
        horizontal_spacing=0.04,
        vertical_spacing=(70 + above) / height if rows > 1 else 0,
    )
    figure.update_annotations(font_size=style.WEB_SIZE)
    told: set[str] = set()
    for i, panel in enumerate(data.panels):
        for line in panel.lines:
            for trace in _traces(line, data, first=line.name not in told):
                figure.add_trace(trace, row=i // columns + 1, col=i % columns + 1)
            told.add(line.name)
        if i + columns >= len(data.panels):  # nothing stands below
            figure.update_xaxes(
                title={"text": interactive.safe(data.x_title), "standoff": 6}, row=i // columns + 1, col=i % columns + 1
            )
    figure.update_layout(
        **interactive.base_layout(height),
        margin={"l": 75, "r": 15, "t": 30 + above, "b": 60},
        # Below the axes, which give way where it has more lines.
        legend={"orientation": "h", "y": -60 / body, "yanchor": "top", "title": {"text": interactive.safe(data.legend)}},
        showlegend=len(data.names) > 1,
    )
    figure.update_xaxes(showgrid=False, zeroline=False)
    if data.labelled is not None:
        ticks = {"tickvals": data.labelled, "ticktext": [f"{tick:g}" for tick in data.labelled]}
        figure.update_xaxes(type="log" if data.logarithmic else "linear", **ticks)
    elif max(np.ptp(line.x) for panel in data.panels for line in panel.lines) < 8:
        figure.update_xaxes(dtick=1)
    for axes, first in ((figure.select_xaxes(), "x"), (figure.select_yaxes(), "y")):
        for axis in list(axes)[1:]:
            axis.update(matches=first)
    figure.update_yaxes(gridcolor=style.LINE, zeroline=True, zerolinecolor=style.MUTED, range=data.span)
    for level in data.levels:
        figure.add_hline(level, line={"color": style.MUTED, "width": 1})
    [y_title], _ = interactive.headings([data.y_title], 240)
    figure.update_yaxes(title_text=y_title, col=1)
    return interactive.Interactive(
        name=data.name,
        figure=figure,
        min_width=120 + 200 * columns,
        description=f"{data.kind}. {data.title}. {data.x_title} across, {data.y_title} up, "
        f"a line per {data.legend or 'series'}.",
    )


def _traces(line: Line, data: Lines, *, first: bool) -> list[go.Scatter]:
    colour, dash = look(data, line.name)
    name = interactive.safe(line.name)
    group: dict[str, Any] = {"legendgroup": name, "name": name}
    drawn = []
    if np.isfinite(line.low).any():
        x, edge = [*line.x, *line.x[::-1]], [*line.high, *line.low[::-1]]
        area = {"fill": "toself", "fillcolor": colour, "opacity": 0.16, "line": {"width": 0}, "mode": "lines"}
        drawn.append(go.Scatter(x=x, y=edge, hoverinfo="skip", showlegend=False, **area, **group))
    symbols = ["circle" if sure else "circle-open" for sure in line.resolved]
    marks = {"line": {"color": colour, "dash": dash}, "marker": {"color": colour, "size": 6, "symbol": symbols}}
    texts = {"text": [_hover(line, data, i) for i in range(len(line.x))], "hovertemplate": "%{text}<extra></extra>"}
    x, y = line.x.tolist(), line.y.tolist()
    return [*drawn, go.Scatter(x=x, y=y, mode="lines+markers", showlegend=first, **marks, **texts, **group)]


def _hover(line: Line, data: Lines, i: int) -> str:
    places = formats.decimals(line.y)
    number, interval = (formats.signed, formats.interval) if data.signed else (formats.plain, formats.bounds)
    where = line.points[i] if line.points else f"{data.x_title} {line.x[i]:g}"
    at = f"<b>{interactive.safe(line.name)}</b><br>{where}: {number(line.y[i], places)}"
    if not np.isfinite(line.low[i]):
        return at
    unsure = "" if line.resolved[i] else "<br><i>unresolved: the interval includes 0</i>"
    return f"{at}<br>{data.interval} {interval(line.low[i], line.high[i], places)}{unsure}"
