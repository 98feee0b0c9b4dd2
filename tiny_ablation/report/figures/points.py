"""Named points on a plane: a map of conditions, or one number against another."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from tiny_ablation.report.figures import canvas, interactive, style

_LEFT, _SIDE, _BOTTOM = 0.95, 4.2, 0.85  # inches


@dataclass(frozen=True)
class Points:
    """Everything that both renderings draw.

    Attributes:
        name: identifies the figure in a page.
        kind: what it is, for those who do not see it.
        title: what was done, to what, on what.
        note: what was compared.
        x_title: the axis across, with the unit.
        y_title: the axis up, with the unit.
        x: (n,)
        y: (n,)
        labels: of the points, for a pointer that rests on them.
        shown: whether the labels stand beside the points.
        diagonal: whether the line x = y is drawn.
        band: the half-width of a band around it; 0 for none.
    """

    name: str
    kind: str
    title: str
    note: str
    x_title: str
    y_title: str
    x: np.ndarray
    y: np.ndarray
    labels: list[str]
    shown: bool = False
    diagonal: bool = False
    band: float = 0.0

    @property
    def ends(self) -> tuple[float, float]:
        """Where the diagonal begins and ends."""
        both = np.concatenate([self.x, self.y])
        room = 0.04 * float(np.ptp(both)) or 0.5
        return float(both.min()) - room, float(both.max()) + room


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
        low, high = data.ends
        axes.plot([low, high], [low, high], color=style.MUTED, linewidth=0.9)
        if data.band:
            ends = np.array([low, high])
            axes.fill_between(
                ends, ends - data.band, ends + data.band, color=style.LINE, alpha=0.5, linewidth=0
            )
    axes.scatter(
        data.x, data.y, s=26, color=style.CATEGORIES[0], edgecolor=style.PAPER, linewidth=0.6, zorder=3
    )
    if data.shown:
        for x, y, label in zip(data.x, data.y, data.labels, strict=True):
            how = {"textcoords": "offset points", "fontsize": style.TICK_SIZE}
            axes.annotate(canvas.drawable(label), (x, y), (5, 4), **how)
        axes.margins(0.16)
    axes.set_xlabel(data.x_title, fontsize=style.LABEL_SIZE, labelpad=6)
    axes.set_ylabel(data.y_title, fontsize=style.LABEL_SIZE)
    return figure


def page(data: Points) -> interactive.Interactive:
    """The points for a page."""
    figure = go.Figure()
    if data.diagonal:
        low, high = data.ends
        figure.add_trace(_line([low, high], [low, high], style.MUTED))
    labels = [interactive.safe(label) for label in data.labels]
    figure.add_trace(go.Scatter(
        x=data.x.tolist(), y=data.y.tolist(), mode="markers+text" if data.shown else "markers", text=labels,
        textposition="top center", showlegend=False, cliponaxis=False,
        marker={"color": style.CATEGORIES[0], "size": 9}, hovertemplate="<b>%{text}</b><br>%{x:.4g}, %{y:.4g}<extra></extra>",
    ))  # fmt: skip
    figure.update_layout(**interactive.base_layout(430), margin={"l": 75, "r": 20, "t": 20, "b": 55})
    axis = {"zeroline": False, "gridcolor": style.LINE}
    figure.update_xaxes(title_text=interactive.safe(data.x_title), **axis)
    figure.update_yaxes(title_text=interactive.safe(data.y_title), **axis)
    return interactive.Interactive(
        name=data.name, figure=figure, min_width=340,
        description=f"{data.kind}. {data.title}. {data.x_title} across, {data.y_title} up.",
    )  # fmt: skip


def _line(x: list[float], y: list[float], colour: str) -> go.Scatter:
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": colour, "width": 1}, hoverinfo="skip", showlegend=False
    )
