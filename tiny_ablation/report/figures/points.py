"""Named points on a plane: a map of conditions, or one number against another."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from tiny_ablation.document.figures import Points
from tiny_ablation.report.figures import canvas, fonts, interactive, style

_LEFT, _SIDE, _BOTTOM = 0.95, 4.2, 0.85  # inches
# Pixels: a plot no larger than either rendering; a mark, a letter and a line in it; the distance of a label from its point.
_PLOT, _MARK, _LETTER, _LINE, _GAP = (380, 300), 10, 6.2, 15, 7
# Where a label may stand, the best place first: how far across and how far down from its point.
_SPOTS = {"middle right": (1, 0), "top center": (0, -1), "middle left": (-1, 0), "bottom center": (0, 1)}
_Box = tuple[float, float, float, float]


def _looks(data: Points) -> list[tuple[np.ndarray, str, bool]]:
    """Which points are drawn in which colour, and whether filled."""
    unsure = np.zeros(len(data.x), dtype=bool) if data.unsure is None else data.unsure
    return [(~unsure, style.CATEGORIES[0], True), (unsure, style.UNRESOLVED, False)]


def _ends(data: Points) -> tuple[float, float]:
    """Where the diagonal begins and ends."""
    both = np.concatenate([data.x, data.y])
    room = 0.04 * float(np.ptp(both)) or 0.5
    return float(both.min()) - room, float(both.max()) + room


def spots(data: Points) -> dict[int, str]:
    """Where labels stand beside their points, of `_SPOTS`; points far from the diagonal first, none upon another."""
    if not data.shown:
        return {}
    places = _places(data)
    marks: list[_Box] = [(x - _MARK / 2, y - _MARK / 2, x + _MARK / 2, y + _MARK / 2) for x, y in places]
    taken, out = list(marks), {}
    filled = np.flatnonzero(_looks(data)[0][0])
    if data.diagonal:
        filled = filled[np.argsort(-np.abs(data.x - data.y)[filled], kind="stable")]
    for i in filled.tolist():
        for spot in _SPOTS:
            box = _box(places[i], data.labels[i], spot)
            if box[0] < -_MARK or box[2] > _PLOT[0] + 4 * _MARK:
                continue
            if not any(_meet(box, other) for at, other in enumerate(taken) if at != i):
                taken.append(box)
                out[i] = spot
                break
    return out


def _places(data: Points) -> np.ndarray:
    """(n, 2) the points in `_PLOT`, y downwards."""
    both = np.stack([data.x, data.y], axis=1)
    low, high = _ends(data) if data.diagonal else (both.min(0), both.max(0))
    span = np.where(high > low, np.subtract(high, low), 1.0)
    return np.where([True, False], both - low, high - both) / span * _PLOT


def _box(place: np.ndarray, label: str, spot: str) -> _Box:
    half = np.array([_LETTER * len(label), _LINE]) / 2
    middle = place + _SPOTS[spot] * (half + _GAP)
    return *(middle - half).tolist(), *(middle + half).tolist()


def _meet(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def static(data: Points) -> Figure:
    """The points for print."""
    full = _LEFT + _SIDE + 0.6
    top = canvas.header_height(full, data.title, data.note) + 0.15
    figure = canvas.blank(full, top + _SIDE * 0.8 + _BOTTOM)
    canvas.header(figure, data.title, data.note)
    axes = canvas.add_axes(figure, _LEFT, top, _SIDE, _SIDE * 0.8)
    axes.grid(color=style.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    if data.diagonal:
        low, high = _ends(data)
        axes.plot([low, high], [low, high], color=style.MUTED, linewidth=0.9)
    for at, colour, filled in _looks(data):
        face = colour if filled else style.PAPER
        axes.scatter(data.x[at], data.y[at], s=24, facecolor=face, edgecolor=colour, linewidth=0.9, zorder=3)
    for i, spot in spots(data).items():
        across, down = _SPOTS[spot]
        how: dict[str, Any] = {"textcoords": "offset points", "fontsize": style.TICK_SIZE}
        how |= {"ha": ("center", "left", "right")[across], "va": ("center", "top", "bottom")[down]}
        axes.annotate(fonts.drawable(data.labels[i]), (data.x[i], data.y[i]), (5 * across, -5 * down), **how)
    if data.shown:
        axes.margins(0.16)
    axes.set_xlabel(data.x_title, fontsize=style.LABEL_SIZE, labelpad=6)
    axes.set_ylabel(data.y_title, fontsize=style.LABEL_SIZE)
    return figure


def page(data: Points) -> interactive.Interactive:
    """The points for a page."""
    figure = go.Figure()
    if data.diagonal:
        low, high = _ends(data)
        line = {"mode": "lines", "line": {"color": style.MUTED, "width": 1}}
        figure.add_scatter(x=[low, high], y=[low, high], hoverinfo="skip", showlegend=False, **line)
    for shown, colour, filled in _looks(data):
        at = np.flatnonzero(shown).tolist()
        names, placed = [interactive.safe(data.labels[i]) for i in at], spots(data) if filled else {}
        figure.add_scatter(
            x=data.x[at].tolist(),
            y=data.y[at].tolist(),
            mode="markers+text" if placed else "markers",
            text=[name if i in placed else "" for i, name in zip(at, names, strict=True)],
            textposition=[placed.get(i, "top center") for i in at],
            showlegend=False,
            cliponaxis=False,
            marker={"color": colour, "size": 9, "symbol": "circle" if filled else "circle-open"},
            hovertext=names,
            hovertemplate="<b>%{hovertext}</b><br>%{x:.4g}, %{y:.4g}<extra></extra>",
        )
    figure.update_layout(**interactive.base_layout(430), margin={"l": 75, "r": 20, "t": 20, "b": 55})
    axis = {"zeroline": False, "gridcolor": style.LINE}
    figure.update_xaxes(title_text=interactive.safe(data.x_title), **axis)
    figure.update_yaxes(title_text=interactive.safe(data.y_title), **axis)
    description = f"{data.kind}. {data.title}. {data.x_title} across, {data.y_title} up."
    return interactive.Interactive(name=data.name, figure=figure, description=description, min_width=340)
