"""The robustness matrix: how far two ways of intervening agree on which heads matter, and with which sign.

Conditions on both axes. Below the diagonal: rank correlation over all heads; above it: the share of the strongest heads of
either that have one sign in both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiny_ablation.report.figures import canvas, interactive, style
from tiny_ablation.report.figures.drawing import Drawing

_CELL, _LEFT, _BOTTOM, _RIGHT = 0.6, 1.75, 1.6, 0.4  # inches


@dataclass(frozen=True)
class Agreement:
    """Everything that both renderings draw.

    Attributes:
        summary: the content of `robustness.json`.
        title: of which model and behaviour.
        note: what is compared, and how to read it.
    """

    summary: Mapping[str, Any]
    title: str
    note: str


def collect(summary: Mapping[str, Any]) -> Agreement:
    """The agreement of a sweep's conditions."""
    return Agreement(summary, f"Robustness: {summary['model']} on {summary['dataset']}", _note(summary))


def page(data: Agreement) -> interactive.Interactive:
    """The interactive matrix, to be put into a page."""
    names, values = [interactive.safe(name) for name in data.summary["conditions"]], matrix(data.summary)
    figure = go.Figure(
        go.Heatmap(
            z=values, x=names, y=names, coloraxis="coloraxis", xgap=2, ygap=2, texttemplate="%{z:.2f}",
            hovertemplate="<b>%{y} and %{x}</b><br>%{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        **interactive.base_layout(180 + 42 * len(names)), margin={"l": 150, "r": 20, "t": 10, "b": 130},
        coloraxis={"colorscale": interactive.colour_scale(), "cmin": -1, "cmid": 0, "cmax": 1, "showscale": False},
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    return interactive.Interactive(
        "robustness", figure, f"Robustness matrix. {data.title}. {data.note}", min_width=200 + 48 * len(names)
    )


def matrix(summary: Mapping[str, Any]) -> np.ndarray:
    """(conditions, conditions): rank correlation below the diagonal, sign agreement above, NaN on it."""
    names = summary["conditions"]
    values = np.full((len(names), len(names)), np.nan)
    for pair in summary["agreement"]:
        i, j = sorted((names.index(pair["condition_a"]), names.index(pair["condition_b"])))
        if i != j:
            values[j, i] = np.nan if pair["spearman"] is None else pair["spearman"]
            values[i, j] = pair["sign_agreement"]
    return values


def _note(summary: Mapping[str, Any]) -> str:
    return (
        f"{summary['metric']}, {summary['n_heads']} heads, n = {summary['n_examples']} examples. Below the diagonal: rank "
        f"correlation of all heads. Above: share of the {summary['k']} strongest of either with one sign. "
        f"{len(summary['holds'])} heads hold under all conditions"
    )


def static(data: Agreement) -> Figure:
    """The matrix for print."""
    names, values = data.summary["conditions"], matrix(data.summary)
    body = _CELL * len(names)
    width = max(6.4, _LEFT + body + _RIGHT)
    top = canvas.header_height(width, data.title, data.note) + 0.15
    figure = canvas.blank(width, top + body + _BOTTOM)
    canvas.header(figure, data.title, data.note)
    axes = canvas.add_axes(figure, _LEFT, top, body, body)
    axes.imshow(values, cmap=canvas.diverging(), vmin=-1, vmax=1, aspect="auto")
    _write_values(axes, values)
    labels = [canvas.drawable(name) for name in names]
    axes.set_xticks(
        range(len(names)), labels=labels, rotation=45, ha="right", rotation_mode="anchor", parse_math=False
    )
    axes.set_yticks(range(len(names)), labels=labels, parse_math=False)
    return figure


def _write_values(axes: Axes, values: np.ndarray) -> None:
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = style.PAPER if abs(value) > 0.6 else style.INK
            axes.text(
                j,
                i,
                style.plain(float(value), 2),
                ha="center",
                va="center",
                fontsize=style.TICK_SIZE,
                color=ink,
            )


ROBUSTNESS = Drawing(
    "robustness",
    "Does it depend on how one intervenes?",
    "Below the diagonal: rank correlation of all heads. Above it: the share of the strongest heads of either condition that "
    "have one sign in both.",
    collect, static, page, lambda data: data.note,
)  # fmt: skip
