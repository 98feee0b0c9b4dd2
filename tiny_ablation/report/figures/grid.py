"""Values on a grid of two named axes, one panel or several with the same colours: the drawing behind most maps.

A full cell is a value whose interval excludes 0; a grey dot is one whose interval holds 0; an empty cell was not measured.
"""

from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from plotly.subplots import make_subplots

from tiny_ablation import formats
from tiny_ablation.report.figures import canvas, fonts, interactive, style

_ROW, _LETTER, _GAP, _RIGHT, _SQUARE = 0.21, 0.075, 0.3, 0.35, 0.55  # inches
_UNSURE = "unresolved: the interval holds 0"


@dataclass(frozen=True)
class GridPanel:
    """One panel: arrays of shape (rows, columns).

    Attributes:
        name: above it.
        values: NaN where nothing was measured.
        resolved: whether the value is to be coloured; else it is a grey dot.
        hover: the numbers of a cell in words.
        marked: cells with an outline.
    """

    name: str
    values: np.ndarray
    resolved: np.ndarray
    hover: list[list[str]]
    marked: np.ndarray | None = None

    def unsure(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the grey dots."""
        rows, columns = np.nonzero(~self.resolved & ~np.isnan(self.values))
        return rows, columns

    def outlined(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the outlines."""
        rows, columns = np.nonzero(self.marked if self.marked is not None else np.zeros_like(self.resolved))
        return rows, columns


@dataclass(frozen=True)
class Grid:
    """Everything that both renderings draw.

    Attributes:
        name: identifies the figure in a page.
        kind: what it is, for those who do not see it.
        title: what was done, to what, on what.
        note: examples, and how to read a cell.
        rows: the labels down.
        columns: the labels across.
        axes: what the rows and the columns are.
        colour: the label of the colours, with the unit.
        limit: the colours reach from minus this to this.
        panels: side by side, or one below the other where they are wide.
        places: decimals of numbers in the cells; None shows no numbers.
        strong: rows whose labels are bold.
        square: whether cells are as high as they are wide, as where both axes are the same.
    """

    name: str
    kind: str
    title: str
    note: str
    rows: list[str]
    columns: list[str]
    axes: tuple[str, str]
    colour: str
    limit: float
    panels: list[GridPanel]
    places: int | None = None
    strong: frozenset[int] = field(default_factory=frozenset)
    square: bool = False

    @property
    def stacked(self) -> bool:
        """Whether panels stand one below the other, since side by side no label could be read."""
        return len(self.panels) > 1 and len(self.columns) * len(self.panels) > 30


# Static


def static(data: Grid) -> Figure:
    """The grid for print."""
    left = 0.55 + _LETTER * max(map(len, data.rows))
    below = 0.35 + (_LETTER * max(map(len, data.columns)) if _upright(data) else 0.15)
    height = len(data.rows) * (_column_width(data) if data.square else _ROW)
    width, k = len(data.columns) * _column_width(data), len(data.panels)
    across, down = (1, k) if data.stacked else (k, 1)
    body = left + across * width + (across - 1) * _GAP + _RIGHT
    full = max(5.6, body)
    top = canvas.header_height(full, data.title, data.note) + 0.3
    deep = down * height + (down - 1) * (below + 0.3)
    figure = canvas.blank(full, top + deep + below + 0.85)
    canvas.header(figure, data.title, data.note)
    start = left + (full - body) / 2
    for i, panel in enumerate(data.panels):
        x, y = (0, i * (height + below + 0.3)) if data.stacked else (i * (width + _GAP), 0)
        axes = canvas.add_axes(figure, start + x, top + y, width, height)
        _draw(axes, panel, data, first=i == 0 or data.stacked)
    canvas.colour_bar(figure, top + deep + below + 0.12, data.limit, data.colour)
    return figure


def _upright(data: Grid) -> bool:
    """Whether the labels across have to be turned."""
    return max(map(len, data.columns)) * _LETTER > _column_width(data)


def _column_width(data: Grid) -> float:
    room = 6.4 / (len(data.columns) * (1 if data.stacked else len(data.panels)))
    least = 0.5 if data.places is not None else 0.16
    return float(np.clip(room, least, _SQUARE if data.square else 0.95))


def _draw(axes: Axes, panel: GridPanel, data: Grid, *, first: bool) -> None:
    n, m = len(data.rows), len(data.columns)
    shown = np.where(panel.resolved, panel.values, np.nan)
    edges = np.arange(m + 1) - 0.5, np.arange(n + 1) - 0.5
    axes.pcolormesh(
        *edges,
        shown,
        cmap=canvas.diverging(),
        vmin=-data.limit,
        vmax=data.limit,
        edgecolors=style.LINE,
        linewidth=0.4,
    )
    y, x = panel.unsure()
    if data.places is None:
        axes.scatter(x, y, color=style.UNRESOLVED, s=9, linewidths=0)
    for i, j in zip(*np.nonzero(~np.isnan(panel.values)), strict=True) if data.places is not None else ():
        _number(axes, panel, data, int(i), int(j))
    for i, j in zip(*panel.outlined(), strict=True):
        axes.add_patch(
            Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=style.INK, linewidth=1.3, zorder=5)
        )
    _finish(axes, panel, data, first)


def _number(axes: Axes, panel: GridPanel, data: Grid, i: int, j: int) -> None:
    value = panel.values[i, j]
    dark = panel.resolved[i, j] and abs(value) > 0.55 * data.limit
    colour = style.PAPER if dark else style.INK if panel.resolved[i, j] else style.UNRESOLVED
    text = formats.signed(float(value), data.places or 0)
    axes.text(j, i, text, ha="center", va="center", fontsize=style.TICK_SIZE - 1, color=colour, zorder=6)


def _finish(axes: Axes, panel: GridPanel, data: Grid, first: bool) -> None:
    axes.set_xlim(-0.5, len(data.columns) - 0.5)
    axes.set_ylim(len(data.rows) - 0.5, -0.5)
    shown = [fonts.drawable(name) for name in data.columns]
    axes.set_xticks(range(len(shown)), shown, rotation=90 if _upright(data) else 0)
    axes.set_yticks(range(len(data.rows)), [fonts.drawable(r) if first else "" for r in data.rows])
    for i, label in enumerate(axes.get_yticklabels()):
        label.set_fontweight("bold" if i in data.strong else "normal")
    axes.set_xlabel(data.axes[1], fontsize=style.LABEL_SIZE)
    if first:
        axes.set_ylabel(data.axes[0], fontsize=style.LABEL_SIZE)
    axes.set_title(fonts.drawable(panel.name), fontsize=style.LABEL_SIZE, loc="left", pad=5)
    for side in axes.spines.values():
        side.set_visible(True)
        side.set_color(style.LINE)


# Interactive


def page(data: Grid) -> interactive.Interactive:
    """The grid for a page."""
    n, m = len(data.rows), len(data.columns)
    across, down = (1, len(data.panels)) if data.stacked else (len(data.panels), 1)
    row = int(np.clip(520 / n, 15, 44 if data.square else 26))
    height = max(400, down * (row * n + 70) + 80 + 7 * max(map(len, data.columns)))
    titles = [interactive.safe(panel.name) for panel in data.panels]
    figure = make_subplots(
        rows=down, cols=across, subplot_titles=titles, horizontal_spacing=0.03, shared_yaxes=not data.stacked,
        vertical_spacing=70 / height if down > 1 else 0,
    )  # fmt: skip
    for i, panel in enumerate(data.panels, start=1):
        row_at, column_at = (i, 1) if data.stacked else (1, i)
        for trace in _traces(panel, data, row):
            figure.add_trace(trace, row=row_at, col=column_at)
        for y, x in zip(*panel.outlined(), strict=True):
            figure.add_shape(interactive.outline(int(x), int(y)), row=row_at, col=column_at)
    if not any(panel.resolved.any() for panel in data.panels):
        figure.add_trace(interactive.without_colours())
    _lay_out(figure, data, height)
    column = 48 if data.places is not None else 16
    return interactive.Interactive(
        name=data.name,
        figure=figure,
        description=f"{data.kind}. {data.title}. {data.axes[0]} down, {data.axes[1]} across; {data.colour}.",
        min_width=9 * max(map(len, data.rows)) + across * (20 + column * m),
    )


def _traces(panel: GridPanel, data: Grid, row: int) -> list[go.Heatmap | go.Scatter]:
    rows, columns = [interactive.safe(x) for x in data.rows], [interactive.safe(x) for x in data.columns]
    texts = None
    if data.places is not None:
        coloured = np.where(panel.resolved, panel.values, np.nan)
        texts = [["" if np.isnan(v) else formats.signed(v, data.places) for v in line] for line in coloured]
    cells = go.Heatmap(
        x=list(range(len(columns))), y=list(range(len(rows))), z=np.where(panel.resolved, panel.values, np.nan),
        customdata=_named(panel, rows, columns), hovertemplate="%{customdata}<extra></extra>", hoverongaps=False,
        coloraxis="coloraxis", xgap=1, ygap=1, text=texts, texttemplate="%{text}" if texts else None,
    )  # fmt: skip
    return [cells, _dots(panel, data, rows, columns, row)]


def _named(panel: GridPanel, rows: list[str], columns: list[str]) -> list[list[str]]:
    return [
        [f"<b>{row}, {column}</b><br>{panel.hover[i][j]}" for j, column in enumerate(columns)]
        for i, row in enumerate(rows)
    ]


def _dots(panel: GridPanel, data: Grid, rows: list[str], columns: list[str], row: int) -> go.Scatter:
    y, x = panel.unsure()
    shown = panel.values[y, x].tolist()
    numbers = None if data.places is None else [formats.signed(v, data.places) for v in shown]
    named = _named(panel, rows, columns)
    return go.Scatter(
        x=x.tolist(), y=y.tolist(), mode="markers" if numbers is None else "text", text=numbers, showlegend=False,
        customdata=[f"{named[i][j]}<br><i>{_UNSURE}</i>" for i, j in zip(y, x, strict=True)],
        hovertemplate="%{customdata}<extra></extra>", textfont={"color": style.UNRESOLVED, "size": 11},
        marker={"color": style.UNRESOLVED, "size": max(4, round(0.25 * row))},
    )  # fmt: skip


def _lay_out(figure: go.Figure, data: Grid, height: int) -> None:
    left = 30 + 7 * max(map(len, data.rows))
    turned = 7 * max(map(len, data.columns)) * len(data.columns) * len(data.panels) > 420
    bottom = 118 + (7 * max(map(len, data.columns)) if turned else 15)
    scale = interactive.colour_axis(figure, data.colour, bottom, data.limit)
    figure.update_layout(
        **interactive.base_layout(height), margin={"l": left, "r": 10, "t": 30, "b": bottom}, coloraxis=scale
    )
    plain = {"showgrid": False, "zeroline": False, "ticks": "", "linecolor": style.LINE, "mirror": True}
    columns = [interactive.safe(x) for x in data.columns]
    rows = [
        f"<b>{interactive.safe(x)}</b>" if i in data.strong else interactive.safe(x)
        for i, x in enumerate(data.rows)
    ]
    figure.update_xaxes(
        tickvals=list(range(len(columns))),
        ticktext=columns,
        range=[-0.5, len(columns) - 0.5],
        tickangle=90 if turned else 0,
        **plain,
    )
    last = len(data.panels) if data.stacked else 1
    figure.update_xaxes(title={"text": interactive.safe(data.axes[1]), "standoff": 4}, row=last)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=rows, range=[len(rows) - 0.5, -0.5], **plain
    )
