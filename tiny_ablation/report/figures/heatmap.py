"""The head map: which heads matter, at a glance.

Layers down, heads across, one panel per scale, the same colours in all. A full cell is an effect whose
interval excludes 0; a grey dot is one whose interval holds 0: its sign is not known, so it has no colour, and
it never looks like a finding, in print and without colour too. A hatched cell was not measured.
"""

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from plotly.subplots import make_subplots

from tiny_ablation.report import vocabulary
from tiny_ablation.report.figures import canvas, fonts, interactive, style
from tiny_ablation.report.figures.head_grid import HeadGrid, Panel

_LEFT, _RIGHT, _GAP, _BOTTOM, _BETWEEN = 0.75, 0.45, 0.5, 1.55, 0.75  # inches
_PAPER = (7.4, 9.0)  # inches that several panels share
_HEADING, _LINE = 1.1, 0.16  # inches: the least room for a panel's name, and the height of a line of it
_BELOW = 115  # pixels


def legend(data: HeadGrid) -> str:
    """What was measured, and how to read a cell."""
    return f"{data.note}. {_legend_sentence(data)}"


def _legend_sentence(data: HeadGrid) -> str:
    gaps = " An empty cell was not measured." if data.has_gaps else ""
    return (
        f"A full cell is an effect whose {data.percent} interval excludes 0; a grey dot is one whose "
        f"interval holds 0, which this run cannot tell from none. {vocabulary.signs(data.metric)}{gaps}"
    )


def _arrange(panels: int) -> tuple[int, int]:
    """Columns and rows of panels on a page."""
    columns = 2 if panels == 4 else min(3, panels)
    return columns, -(-panels // columns)


# Static


def static(data: HeadGrid) -> Figure:
    """The head map for print; many panels are many small maps."""
    columns, rows, width, height = _print_layout(data)
    full = max(6.2, _LEFT + columns * width + (columns - 1) * _GAP + _RIGHT)
    left = (full - columns * width - (columns - 1) * _GAP + _LEFT - _RIGHT) / 2
    headings = [_heading(panel, width) for panel in data.panels]
    above = _LINE * max(heading.count("\n") for heading in headings)
    body = rows * height + (rows - 1) * (_BETWEEN + above)
    top = canvas.header_height(full, data.title, data.note) + 0.3 + above
    figure = canvas.blank(full, top + body + _BOTTOM)
    canvas.header(figure, data.title, data.note)
    for i, panel in enumerate(data.panels):
        across, down = i % columns, i // columns
        corner = left + across * (width + _GAP), top + down * (height + _BETWEEN + above)
        axes = canvas.add_axes(figure, *corner, width, height)
        _draw_panel(axes, panel, data, cell=min(width / len(data.heads), height / len(data.layers)))
        if across == 0:
            axes.set_ylabel("layer", fontsize=style.LABEL_SIZE)
        axes.set_title(headings[i], fontsize=style.LABEL_SIZE, loc="left", pad=5)
        if i + columns >= len(data.panels):  # nothing stands below
            axes.set_xlabel("head", fontsize=style.LABEL_SIZE)
    _draw_key(figure, data, top + body + 0.58)
    return figure


def _heading(panel: Panel, width: float) -> str:
    return canvas.wrapped(fonts.drawable(panel.name), width + _GAP - 0.1)


def _print_layout(data: HeadGrid) -> tuple[int, int, float, float]:
    """Columns and rows of panels, and the width and height of one in inches, so that a page of paper holds them."""
    panels, n_layers, n_heads = len(data.panels), len(data.layers), len(data.heads)
    room = _PAPER[0] - _LEFT - _RIGHT + _GAP
    columns = min(panels, max(2, int(room / (max(0.13 * n_heads, _HEADING) + _GAP))))
    columns = -(-panels // -(-panels // columns))  # no nearly empty last row
    rows = -(-panels // columns)
    widest = 4.2 if panels == 1 else room / columns - _GAP
    width = n_heads * float(np.clip(widest / n_heads, 0.15 if columns < 3 else 0.13, 0.42))
    highest = 7.0 if rows == 1 else _PAPER[1] / rows - _BETWEEN
    height = n_layers * float(np.clip(highest / n_layers, 0.15 if rows == 1 else 0.07, 0.30))
    return columns, rows, width, height


def _draw_panel(axes: Axes, panel: Panel, data: HeadGrid, cell: float) -> None:
    edges_x = np.arange(len(data.heads) + 1) + data.heads[0] - 0.5
    edges_y = np.arange(len(data.layers) + 1) + data.layers[0] - 0.5
    axes.add_patch(_hatched(edges_x, edges_y))
    shown = np.where(np.isnan(panel.delta), np.nan, 0.0)
    axes.pcolormesh(edges_x, edges_y, shown, cmap=ListedColormap([style.PAPER]), zorder=1)
    axes.pcolormesh(
        edges_x,
        edges_y,
        np.where(panel.resolved, panel.delta, np.nan),
        edgecolors=style.LINE,
        linewidth=0.4,
        zorder=2,
        cmap=canvas.diverging(),
        vmin=-data.limit,
        vmax=data.limit,
    )
    unsure = ~panel.resolved & ~np.isnan(panel.delta)
    y, x = np.nonzero(unsure)
    axes.scatter(
        data.heads[x],
        data.layers[y],
        color=style.UNRESOLVED,
        s=(0.2 * cell * 72) ** 2,
        linewidths=0,
        zorder=3,
    )
    for layer, head in sorted(data.marked):
        corner = head - 0.5, layer - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=style.INK, linewidth=1.2, zorder=5))
    _finish_panel(axes, data, edges_x, edges_y)


def _hatched(edges_x: np.ndarray, edges_y: np.ndarray) -> Rectangle:
    corner = edges_x[0], edges_y[0]
    size = np.ptp(edges_x), np.ptp(edges_y)
    return Rectangle(corner, *size, facecolor=style.PAPER, edgecolor=style.LINE, hatch="////", lw=0, zorder=0)


def _finish_panel(axes: Axes, data: HeadGrid, edges_x: np.ndarray, edges_y: np.ndarray) -> None:
    axes.set_xlim(edges_x[0], edges_x[-1])
    axes.set_ylim(edges_y[-1], edges_y[0])
    box = axes.get_window_extent()
    axes.set_xticks(_ticks(data.heads, most=int(box.width / style.DPI / 0.14)))
    axes.set_yticks(_ticks(data.layers, most=int(box.height / style.DPI / 0.16)))
    for side in axes.spines.values():
        side.set_visible(True)
        side.set_color(style.LINE)


def _ticks(values: np.ndarray, most: int = 16) -> np.ndarray:
    """Every label where there are few, else every second, fourth or eighth."""
    step = next((step for step in (1, 2, 4, 8) if len(values) <= min(most, 16) * step), 16)
    return values[values % step == 0] if step > 1 else values


def _draw_key(figure: Figure, data: HeadGrid, top: float) -> None:
    """The colour bar with its units, what its ends mean, and the marks."""
    full = figure.get_size_inches()[0]
    width = min(3.4, full - 2.6)
    left = (full - width) / 2
    canvas.colour_bar(figure, top, data.limit, vocabulary.change_label(data.metric), width=width)
    said = vocabulary.metric_vocabulary(data.metric)
    for text, x, side in ((said.less, left - 0.1, "right"), (said.more, left + width + 0.1, "left")):
        canvas.write(figure, x, top - 0.02, text, ha=side, fontsize=style.TICK_SIZE, color=style.MUTED)
    _draw_marks(figure, data, top + 0.62)


def _draw_marks(figure: Figure, data: HeadGrid, top: float) -> None:
    dot = {"marker": "o", "linestyle": "", "color": style.UNRESOLVED, "markersize": 3}
    marks = [
        Patch(facecolor=style.DIVERGING[2], label=data.marks[0]),
        Line2D([], [], label=data.marks[1], **dot),
    ]
    if data.marked:
        marks.append(Patch(facecolor=style.PAPER, edgecolor=style.INK, label="invariant"))
    if data.has_gaps:
        marks.append(Patch(facecolor=style.PAPER, edgecolor=style.LINE, hatch="/////", label="not measured"))
    height = figure.get_size_inches()[1]
    figure.legend(
        handles=marks,
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - top / height),
        ncols=len(marks),
        frameon=False,
        fontsize=style.TICK_SIZE,
        handlelength=1.1,
        handleheight=1.0,
        columnspacing=1.8,
    )


# Interactive


def page(data: HeadGrid) -> interactive.Interactive:
    """The head map for a page."""
    columns, rows = _arrange(len(data.panels))
    row_height = int(np.clip((560 if rows < 3 else 380) / len(data.layers), 12, 24))
    body = row_height * len(data.layers)
    least = max(200, 13 * len(data.heads))  # pixels of a panel
    names, lines = interactive.headings([panel.name for panel in data.panels], least)
    above = 16 * (lines - 1)
    height = rows * (body + 70 + above) + 110
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=names,
        horizontal_spacing=0.08 / columns + 0.02,
        vertical_spacing=(70 + above) / height if rows > 1 else 0,
    )
    figure.update_annotations(font_size=style.WEB_SIZE)
    for i, panel in enumerate(data.panels):
        row, column = i // columns + 1, i % columns + 1
        figure.add_trace(_cells(panel, data), row=row, col=column)
        figure.add_trace(_dots(panel, data, row_height), row=row, col=column)
        for layer, head in sorted(data.marked):
            figure.add_shape(interactive.outline(head, layer), row=row, col=column)
        if i + columns >= len(data.panels):  # nothing stands below
            figure.update_xaxes(title={"text": "head", "standoff": 4}, row=row, col=column)
    if not any(panel.resolved.any() for panel in data.panels):
        figure.add_trace(interactive.without_colours())
    _lay_out(figure, data, height, above)
    return interactive.Interactive(
        name=data.name,
        figure=figure,
        description=f"Head map. {data.title}. Layers down, heads across, {vocabulary.change_label(data.metric)}.",
        min_width=columns * (70 + least),
    )


def _cells(panel: Panel, data: HeadGrid) -> go.Heatmap:
    return go.Heatmap(
        x=data.heads.tolist(),
        y=data.layers.tolist(),
        z=np.where(panel.resolved, panel.delta, np.nan),
        customdata=panel.hover,
        hovertemplate=data.hover[0],
        hoverongaps=False,
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
    )


def _dots(panel: Panel, data: HeadGrid, row_height: int) -> go.Scatter:
    unsure = ~panel.resolved & ~np.isnan(panel.delta)
    y, x = np.nonzero(unsure)
    return go.Scatter(
        x=data.heads[x].tolist(),
        y=data.layers[y].tolist(),
        customdata=[panel.hover[i][j] for i, j in zip(y, x, strict=True)],
        mode="markers",
        hovertemplate=data.hover[1],
        showlegend=False,
        marker={"color": style.UNRESOLVED, "size": max(3, round(0.22 * row_height))},
    )


def _lay_out(figure: go.Figure, data: HeadGrid, height: int, above: int) -> None:
    figure.update_layout(
        **interactive.base_layout(height),
        margin={"l": 55, "r": 15, "t": 35 + above, "b": _BELOW},
        coloraxis=interactive.colour_axis(figure, vocabulary.change_label(data.metric), _BELOW, data.limit),
    )
    span_x = [data.heads[0] - 0.5, data.heads[-1] + 0.5]
    span_y = [data.layers[-1] + 0.5, data.layers[0] - 0.5]
    common = {"showgrid": False, "zeroline": False, "linecolor": style.LINE, "mirror": True, "ticks": ""}
    figure.update_xaxes(range=span_x, tickvals=_ticks(data.heads).tolist(), **common)
    figure.update_yaxes(range=span_y, tickvals=_ticks(data.layers).tolist(), **common)
    figure.update_yaxes(title_text="layer", col=1)
