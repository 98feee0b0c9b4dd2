"""Values on a grid of two named axes, one panel or several with the same colours: the drawing behind all maps.

A full cell is a value whose interval excludes 0; a pale one with a grey dot is one whose interval includes 0: its sign is not
known, and it never looks like a finding, in print and without colour too. A cell that was not measured is empty, and hatched in
maps with a key.
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from plotly.subplots import make_subplots

from tiny_ablation import formats
from tiny_ablation.document.figures import Grid, GridPanel
from tiny_ablation.report.figures import canvas, fonts, interactive, style

_ROW, _LETTER, _GAP, _RIGHT, _SQUARE, _LINE = 0.21, 0.075, 0.3, 0.4, 0.55, 0.16  # inches
_PAPER = (7.4, 9.0)  # inches that the panels of a map of numbered axes share
_HEADING = 1.1  # inches: the least room for a panel's name


def _numbered(data: Grid) -> bool:
    """Whether both axes are numbers, such as layers and heads, whose labels can be thinned out."""
    return all(label.isdigit() for label in (*data.rows, *data.columns)) and data.places is None


def _ticks(labels: list[str], most: int = 16) -> list[int]:
    """Where labels stand: all of them; of numbers each where there are few, else every second, fourth or eighth."""
    if not all(label.isdigit() for label in labels):
        return list(range(len(labels)))
    step = next((step for step in (1, 2, 4, 8) if len(labels) <= min(most, 16) * step), 16)
    return [i for i, label in enumerate(labels) if int(label) % step == 0 or step == 1]


# Static


def static(data: Grid) -> Figure:
    """The grid for print; many panels are many small maps."""
    columns, rows, width, height = _print_layout(data)
    headings = [canvas.wrapped(fonts.drawable(panel.name), width + _GAP - 0.1) for panel in data.panels]
    above = _LINE * max(heading.count("\n") for heading in headings)
    left = 0.55 + _LETTER * max(map(len, data.rows))
    below = 0.35 + (_LETTER * max(map(len, data.columns)) if _upright(data, width) else 0.15)
    body = left + columns * width + (columns - 1) * _GAP + _RIGHT
    deep = rows * height + (rows - 1) * (below + 0.3 + above)
    full = max(6.2, body)
    top = canvas.header_height(full, data.title, data.note) + 0.3 + above
    figure = canvas.blank(full, top + deep + below + (1.15 if data.key else 0.85))
    canvas.header(figure, data.title, data.note)
    for i, panel in enumerate(data.panels):
        across, down = i % columns, i // columns
        corner = ((full - body) / 2 + left + across * (width + _GAP), top + down * (height + below + 0.3 + above))
        axes = canvas.add_axes(figure, *corner, width, height)
        _draw(axes, panel, data, cell=min(width / len(data.columns), height / len(data.rows)))
        _label(axes, data, (width, height), first=across == 0, last=i + columns >= len(data.panels))
        axes.set_title(headings[i], fontsize=style.LABEL_SIZE, loc="left", pad=5)
    _draw_key(figure, data, top + deep + below + 0.12)
    return figure


def _print_layout(data: Grid) -> tuple[int, int, float, float]:
    """Columns and rows of panels, and the width and height of one in inches, such that a page of paper holds them."""
    k, n, m = len(data.panels), len(data.rows), len(data.columns)
    if not _numbered(data):
        stacked = k > 1 and m * k > 30  # side by side no label could be read
        least = 0.5 if data.places is not None else 0.16
        cell = float(np.clip(6.4 / (m * (1 if stacked else k)), least, _SQUARE if data.square else 0.95))
        return 1 if stacked else k, k if stacked else 1, m * cell, n * (cell if data.square else _ROW)
    room = _PAPER[0] - 1.2 + _GAP
    columns = min(k, max(2, int(room / (max(0.13 * m, _HEADING) + _GAP))))
    columns = -(-k // -(-k // columns))  # no nearly empty last row
    rows = -(-k // columns)
    widest = 4.2 if k == 1 else room / columns - _GAP
    width = m * float(np.clip(widest / m, 0.15 if columns < 3 else 0.13, 0.42))
    highest = 7.0 if rows == 1 else _PAPER[1] / rows - 0.75
    return columns, rows, width, n * float(np.clip(highest / n, 0.15 if rows == 1 else 0.07, 0.30))


def _upright(data: Grid, width: float) -> bool:
    """Whether the labels across have to be turned."""
    shown = [data.columns[i] for i in _ticks(list(data.columns))]
    return max(map(len, shown)) * _LETTER > width / len(shown)


def _draw(axes: Axes, panel: GridPanel, data: Grid, cell: float) -> None:
    edges = np.arange(len(data.columns) + 1) - 0.5, np.arange(len(data.rows) + 1) - 0.5
    measured = np.where(np.isnan(panel.values), np.nan, 0.0)
    if data.key:
        size = len(data.columns), len(data.rows)
        hatched = {"facecolor": style.PAPER, "edgecolor": style.LINE, "hatch": "////", "lw": 0, "zorder": 0}
        axes.add_patch(Rectangle((-0.5, -0.5), *size, **hatched))
        axes.pcolormesh(*edges, measured, cmap=ListedColormap([style.PAPER]), zorder=1)
    colours = {"cmap": canvas.diverging(), "vmin": -data.limit, "vmax": data.limit, "edgecolors": style.LINE, "linewidth": 0.4}
    for drawn, alpha in ((~panel.resolved, style.PALE), (panel.resolved, 1.0)):
        axes.pcolormesh(*edges, np.where(drawn, panel.values, np.nan), alpha=alpha, zorder=2, **colours)
    if data.places is None:
        y, x = panel.unsure()
        axes.scatter(x, y, color=style.UNRESOLVED, s=min(9.0, (0.2 * cell * 72) ** 2), linewidths=0, zorder=3)
    else:
        for i, j in np.argwhere(~np.isnan(panel.values)).tolist():
            value, sure = panel.values[i, j], panel.resolved[i, j]
            dark = sure and abs(value) > 0.55 * data.limit
            colour = style.PAPER if dark else style.INK if sure else style.UNRESOLVED
            text, size = formats.signed(float(value), data.places), style.TICK_SIZE - 1
            axes.text(j, i, text, fontsize=size, color=colour, zorder=6, ha="center", va="center")
    for i, j in panel.outlined():
        frame = {"fill": False, "edgecolor": style.INK, "linewidth": 1.3, "zorder": 5}
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, **frame))


def _label(axes: Axes, data: Grid, size: tuple[float, float], *, first: bool, last: bool) -> None:
    axes.set_xlim(-0.5, len(data.columns) - 0.5)
    axes.set_ylim(len(data.rows) - 0.5, -0.5)
    across = _ticks(list(data.columns), most=int(size[0] / 0.14))
    down = _ticks(list(data.rows), most=int(size[1] / 0.16))
    names = [fonts.drawable(data.columns[i]) for i in across]
    axes.set_xticks(across, names, rotation=90 if _upright(data, size[0]) else 0)
    axes.set_yticks(down, [fonts.drawable(data.rows[i]) if first else "" for i in down])
    for i, label in zip(down, axes.get_yticklabels(), strict=True):
        label.set_fontweight("bold" if i in data.strong else "normal")
    if last or not _numbered(data):
        axes.set_xlabel(data.axes[1], fontsize=style.LABEL_SIZE)
    if first:
        axes.set_ylabel(data.axes[0], fontsize=style.LABEL_SIZE)
    for side in axes.spines.values():
        side.set_visible(True)
        side.set_color(style.LINE)


def _draw_key(figure: Figure, data: Grid, top: float) -> None:
    """The colour bar with its units; what its ends and the marks mean, where the grid says it."""
    full, height = figure.get_size_inches()
    width = min(3.4, full - 2.6) if data.key else 3.0
    canvas.colour_bar(figure, top, data.limit, data.colour, width=width)
    if not data.key:
        return
    left = (full - width) / 2
    for text, x, side in ((data.key.below, left - 0.1, "right"), (data.key.above, left + width + 0.1, "left")):
        canvas.write(figure, x, top - 0.02, text, ha=side, fontsize=style.TICK_SIZE, color=style.MUTED)
    dot = {"marker": "o", "linestyle": "", "color": style.UNRESOLVED, "markersize": 3}
    marks = [Patch(facecolor=style.DIVERGING[2], label=data.key.coloured), Line2D([], [], label=data.key.dot, **dot)]
    if any(panel.outlined() for panel in data.panels):
        marks.append(Patch(facecolor=style.PAPER, edgecolor=style.INK, label=data.key.outlined))
    if data.has_gaps:
        marks.append(Patch(facecolor=style.PAPER, edgecolor=style.LINE, hatch="/////", label="not measured"))
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 1 - (top + 0.62) / height), "ncols": len(marks)}
    size: dict[str, Any] = {"fontsize": style.TICK_SIZE, "handlelength": 1.1, "handleheight": 1.0, "columnspacing": 1.8}
    figure.legend(handles=marks, **place, **size, frameon=False)


# Interactive


def page(data: Grid) -> interactive.Interactive:
    """The grid for a page."""
    k, n, m = len(data.panels), len(data.rows), len(data.columns)
    if _numbered(data):
        columns = 2 if k == 4 else min(3, k)
        cell, least = int(np.clip((560 if k < 7 else 380) / n, 12, 24)), max(200, 13 * m)
    else:
        columns = 1 if k > 1 and m * k > 30 else k
        cell, least = (int(np.clip(520 / n, 15, 44 if data.square else 26)), (48 if data.places is not None else 16) * m)
    rows = -(-k // columns)
    titles, lines = interactive.headings([panel.name for panel in data.panels], max(200, least))
    above = 16 * (lines - 1)
    bottom = 118 + (7 * max(map(len, data.columns)) if _turned(data, columns) else 0)
    between = 70 + above + bottom - 118
    height = max(0 if _numbered(data) else 400, rows * cell * n + (rows - 1) * between + 35 + above + bottom)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=titles,
        horizontal_spacing=0.08 / columns + 0.02,
        vertical_spacing=between / height if rows > 1 else 0,
        shared_yaxes=not _numbered(data),
    )
    figure.update_annotations(font_size=style.WEB_SIZE)
    for i, panel in enumerate(data.panels):
        row, column = i // columns + 1, i % columns + 1
        for trace in _traces(panel, data, cell):
            figure.add_trace(trace, row=row, col=column)
        for y, x in panel.outlined():
            figure.add_shape(interactive.outline(x, y), row=row, col=column)
        if i + columns >= k:  # nothing stands below
            figure.update_xaxes(title={"text": interactive.safe(data.axes[1]), "standoff": 4}, row=row, col=column)
    if not any(panel.resolved.any() for panel in data.panels):
        figure.add_trace(interactive.without_colours())
    left = 40 + 7 * max(map(len, data.rows))
    figure.update_layout(
        **interactive.base_layout(height),
        margin={"l": max(55, left), "r": 15, "t": 35 + above, "b": bottom},
        coloraxis=interactive.colour_axis(figure, data.colour, bottom, data.limit),
    )
    _name_axes(figure, data, turned=_turned(data, columns))
    return interactive.Interactive(
        name=data.name,
        figure=figure,
        description=f"{data.kind}. {data.title}. {data.axes[0]} down, {data.axes[1]} across; {data.colour}.",
        min_width=left + columns * (40 + least),
    )


def _turned(data: Grid, columns: int) -> bool:
    """Whether the labels across have to be turned."""
    shown = [data.columns[i] for i in _ticks(list(data.columns))]
    return 7 * max(map(len, shown)) * len(shown) * columns > 420 and not _numbered(data)


def _name_axes(figure: go.Figure, data: Grid, *, turned: bool) -> None:
    plain = {"showgrid": False, "zeroline": False, "ticks": "", "linecolor": style.LINE, "mirror": True}
    columns, rows = ([interactive.safe(label) for label in labels] for labels in (data.columns, data.rows))
    rows = [f"<b>{row}</b>" if i in data.strong else row for i, row in enumerate(rows)]
    across, down = _ticks(list(data.columns)), _ticks(list(data.rows))
    figure.update_xaxes(
        tickvals=across,
        ticktext=[columns[i] for i in across],
        range=[-0.5, len(columns) - 0.5],
        tickangle=90 if turned else 0,
        **plain,
    )
    figure.update_yaxes(tickvals=down, ticktext=[rows[i] for i in down], range=[len(rows) - 0.5, -0.5], **plain)
    figure.update_yaxes(title={"text": interactive.safe(data.axes[0]), "standoff": 6}, col=1)


def _traces(panel: GridPanel, data: Grid, cell: int) -> list[go.Heatmap | go.Scatter]:
    n, m, decimals = len(data.rows), len(data.columns), data.places
    shown = np.where(panel.resolved, panel.values, np.nan)
    numbers = None
    if decimals is not None:
        numbers = np.vectorize(lambda v: "" if np.isnan(v) else formats.signed(v, decimals))
    texts = [[_hover(panel, data, i, j) for j in range(m)] for i in range(n)]
    places = [f"%{{customdata[{i + 1}]}}" for i in range(9)]  # as many as any hover shows
    template = f"<b>%{{customdata[0]}}</b><br>{interactive.safe(data.hover).replace(chr(10), '<br>').format(*places)}"
    y, x = (found.tolist() for found in panel.unsure())
    cells = {"x": list(range(m)), "y": list(range(n)), "coloraxis": "coloraxis", "xgap": 1, "ygap": 1}
    return [
        go.Heatmap(z=np.where(panel.resolved, np.nan, panel.values), opacity=style.PALE, hoverinfo="skip", **cells),
        go.Heatmap(
            z=shown,
            customdata=texts,
            hovertemplate=f"{template}<extra></extra>",
            hoverongaps=False,
            text=None if numbers is None else numbers(shown),
            texttemplate=None if numbers is None else "%{text}",
            **cells,
        ),
        go.Scatter(
            x=x,
            y=y,
            mode="markers" if numbers is None else "text",
            showlegend=False,
            text=numbers(panel.values[y, x]) if numbers is not None and y else None,
            customdata=[texts[i][j] for i, j in zip(y, x, strict=True)],
            hovertemplate=f"{template}<br><i>{interactive.safe(data.unsure)}</i><extra></extra>",
            textfont={"color": style.UNRESOLVED, "size": 11},
            marker={"color": style.UNRESOLVED, "size": max(3, round(0.23 * cell))},
        ),
    ]


def _hover(panel: GridPanel, data: Grid, i: int, j: int) -> list[str]:
    """The name of a cell and the texts of its hover; nothing where it was not measured."""
    if np.isnan(panel.values[i, j]):
        return []
    site = data.site.format(row=data.rows[i], column=data.columns[j])
    return [interactive.safe(text) for text in (site, *panel.hover[i][j])]
