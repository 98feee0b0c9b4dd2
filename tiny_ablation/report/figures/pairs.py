"""The pair matrix: which heads do more, or less, together than the sum of what each does alone.

Heads on both axes, each pair once, coloured by its interaction. A full cell is an interaction whose interval excludes 0; a grey
dot is one whose interval holds 0. An empty cell is a pair that was not measured. The diagonal is left out: a head is no pair.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tiny_ablation.report import tables, words
from tiny_ablation.report.figures import canvas, interactive, style

_CELL, _LEFT, _BOTTOM = 0.42, 0.95, 1.5  # inches
_BELOW = 140  # pixels


@dataclass(frozen=True)
class PairGrid:
    """Everything that both renderings of a pair matrix draw.

    Attributes:
        metric: what the interactions are on.
        title: what was done, to what, on what.
        note: examples, and how to read a cell.
        labels: the heads, first layer first; the order of both axes.
        interaction: (heads, heads), the earlier head down, the later across; NaN where there is no such pair.
        resolved: (heads, heads), whether the interval excludes 0.
        hover: (heads, heads), the numbers of a cell in words.
    """

    metric: str
    title: str
    note: str
    labels: list[str]
    interaction: np.ndarray
    resolved: np.ndarray
    hover: list[list[str]]

    @property
    def limit(self) -> float:
        """The colours reach from minus this to this."""
        return style.symmetric_limit(self.interaction.ravel())


def collect(impact: pd.DataFrame, metric: str, title: str, confidence: float) -> PairGrid:
    """Read the interactions of every pair off an impact table.

    Args:
        impact: the rows of a pair-level impact table of one run.
        metric: the metric to show.
        title: what was done, to what, on what.
        confidence: of the intervals in `impact`.

    Raises:
        ResultsError: the table has no effect on `metric`.
    """
    rows = tables.effects(impact, metric)
    ends = [list(zip(rows[f"layer_{end}"], rows[f"head_{end}"], strict=True)) for end in ("a", "b")]
    heads = sorted({head for end in ends for head in end})
    place = {head: i for i, head in enumerate(heads)}
    n, places = len(heads), style.decimals(rows["interaction"])
    grid, resolved = np.full((n, n), np.nan), np.zeros((n, n), dtype=bool)
    hover = [[""] * n for _ in heads]
    for a, b, row in zip(*ends, rows.to_dict("records"), strict=True):
        i, j = sorted((place[a], place[b]))
        grid[i, j] = row["interaction"]
        resolved[i, j] = not style.holds_zero(row["interaction_low"], row["interaction_high"])
        hover[i][j] = _numbers(row, places, style.percent(confidence))
    note = f"{tables.examples(rows)}; joint effect on {metric} minus the two single effects"
    labels = [f"L{layer}H{head}" for layer, head in heads]
    return PairGrid(metric, title, note, labels, grid, resolved, hover)


def _numbers(row: dict, places: int, percent: str) -> str:
    bounds = style.interval(row["interaction_low"], row["interaction_high"], places)
    parts = [style.signed(row[name], places) for name in ("interaction", "delta", "delta_a", "delta_b")]
    return f"interaction {parts[0]}<br>{percent} interval {bounds}<br>together {parts[1]}, alone {parts[2]} and {parts[3]}"


def static(data: PairGrid) -> Figure:
    """The pair matrix for print."""
    n = len(data.labels)
    side = n * float(np.clip(6.0 / n, 0.16, _CELL))
    full = max(5.6, _LEFT + side + 0.5)
    top = canvas.header_height(full, data.title, data.note) + 0.15
    figure = canvas.blank(full, top + side + _BOTTOM)
    canvas.header(figure, data.title, data.note)
    axes = canvas.add_axes(figure, (full - side + _LEFT - 0.5) / 2, top, side, side)
    edges = np.arange(n + 1) - 0.5
    shown = np.where(data.resolved, data.interaction, np.nan)
    axes.pcolormesh(
        edges, edges, shown, cmap=canvas.diverging(), vmin=-data.limit, vmax=data.limit, edgecolors=style.LINE, linewidth=0.4
    )  # fmt: skip
    y, x = np.nonzero(~data.resolved & ~np.isnan(data.interaction))
    axes.scatter(x, y, color=style.UNRESOLVED, s=(0.2 * 72 * side / n) ** 2, linewidths=0)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(edges[-1], edges[0])
    axes.set_xticks(range(n), data.labels, rotation=90)
    axes.set_yticks(range(n), data.labels)
    _draw_key(figure, data, top + side + 0.72)
    return figure


def _draw_key(figure: Figure, data: PairGrid, top: float) -> None:
    """The colour bar with its units, and what the dot is."""
    full = figure.get_size_inches()[0]
    axes = canvas.add_axes(figure, (full - 3.0) / 2, top, 3.0, 0.13)
    norm = Normalize(-data.limit, data.limit)
    bar = figure.colorbar(ScalarMappable(norm, canvas.diverging()), cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    places = min(style.decimals([data.limit]), 4)
    bar.set_ticks(
        (-data.limit, 0.0, data.limit),
        labels=[style.signed(v, places) for v in (-data.limit, 0.0, data.limit)],
    )
    axes.tick_params(length=0, labelsize=style.TICK_SIZE, pad=3)
    bar.set_label(f"{_label(data)}; grey dot: its interval holds 0", fontsize=style.LABEL_SIZE, labelpad=4)


def _label(data: PairGrid) -> str:
    return f"interaction in {data.metric} ({words.metric_words(data.metric).unit})"


def page(data: PairGrid) -> interactive.Interactive:
    """The pair matrix for a page."""
    n = len(data.labels)
    height = 170 + n * int(np.clip(420 / n, 14, 34))
    unsure = ~data.resolved & ~np.isnan(data.interaction)
    figure = go.Figure()
    figure.add_trace(
        go.Heatmap(
            x=data.labels, y=data.labels, z=np.where(data.resolved, data.interaction, np.nan), customdata=data.hover,
            hovertemplate="<b>%{y} and %{x}</b><br>%{customdata}<extra></extra>", hoverongaps=False, coloraxis="coloraxis",
            xgap=1, ygap=1,
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[data.labels[j] for j in np.nonzero(unsure)[1]], y=[data.labels[i] for i in np.nonzero(unsure)[0]],
            customdata=[data.hover[i][j] for i, j in zip(*np.nonzero(unsure), strict=True)], mode="markers", showlegend=False,
            hovertemplate="<b>%{y} and %{x}</b><br>%{customdata}<br><i>unresolved: the interval holds 0</i><extra></extra>",
            marker={"color": style.UNRESOLVED, "size": 6},
        )
    )  # fmt: skip
    _lay_out(figure, data, height)
    return interactive.Interactive(
        name=f"pair-matrix-{data.metric}",
        figure=figure,
        description=f"Pair matrix. {data.title}. Heads on both axes, {_label(data)}.",
        min_width=90 + 14 * n,
    )


def _lay_out(figure: go.Figure, data: PairGrid, height: int) -> None:
    bar = interactive.colour_bar(figure, _label(data), _BELOW)
    scale = {
        "colorscale": interactive.colour_scale(),
        "cmin": -data.limit,
        "cmax": data.limit,
        "cmid": 0,
        "colorbar": bar,
    }
    figure.update_layout(
        **interactive.base_layout(height), margin={"l": 65, "r": 15, "t": 15, "b": _BELOW}, coloraxis=scale
    )
    common = {
        "type": "category",
        "categoryarray": data.labels,
        "showgrid": False,
        "zeroline": False,
        "ticks": "",
    }
    span = len(data.labels) - 0.5
    figure.update_xaxes(range=[-0.5, span], tickangle=90, **common)
    figure.update_yaxes(range=[span, -0.5], **common)
