"""Reading maps off a run: layers by named positions."""

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.data.text import natural_key
from tiny_ablation.report import tables, vocabulary
from tiny_ablation.report.figures import style
from tiny_ablation.report.figures.grid import Grid, GridPanel
from tiny_ablation.report.figures.source import RunSource

# The order in which a prompt holds them, as in figure 1 of Meng et al. 2022.
_POSITIONS = ("subject_first", "subject_middle", "subject_last", "first_after", "further", "last")


def is_trace(source: RunSource) -> bool:
    """Whether effects are by layer and position."""
    return source.index == ("layer", "position", "granularity")


def trace(source: RunSource) -> Grid:
    """Positions down, layers across, a panel per granularity (and direction): the layout of Meng et al. 2022, figure 1."""
    rows = tables.effects(source.impact, source.metric)
    names = sorted(set(rows["position"]), key=_position)
    layers = sorted(set(rows["layer"]))
    several = source.several_directions
    panels = [
        _panel(
            f"{granularity}, {direction}" if several else str(granularity),
            part,
            names,
            layers,
            source.confidence,
        )
        for granularity, same in rows.groupby("granularity", sort=False)
        for direction, part in same.groupby("direction", sort=False)
    ]
    name = find_ablation(source.summary["kind"]).effect_name
    return Grid(
        name=f"trace-{source.metric}",
        kind="Map of positions and layers",
        title=source.title,
        note=f"{tables.examples(rows)}; a full cell is an effect whose interval excludes 0, a grey dot one "
        "whose interval holds it",
        rows=[name.replace("_", " ") for name in names],
        columns=[str(layer) for layer in layers],
        axes=("position", "layer"),
        colour=f"{name}{': ' if name else ''}{vocabulary.change_label(source.metric)}",
        limit=style.symmetric_limit(rows["delta"]),
        panels=panels,
    )


def _position(name: str) -> tuple[int, object]:
    known = _POSITIONS.index(name) if name in _POSITIONS else len(_POSITIONS)
    return known, natural_key(name)


def _panel(
    name: str, rows: pd.DataFrame, names: list[str], layers: list[int], confidence: float
) -> GridPanel:
    values = np.full((len(names), len(layers)), np.nan)
    resolved = np.zeros(values.shape, dtype=bool)
    hover = [["not measured"] * len(layers) for _ in names]
    places = formats.decimals(rows["delta"])
    for row in rows.to_dict("records"):
        i, j = names.index(row["position"]), layers.index(row["layer"])
        values[i, j], resolved[i, j] = row["delta"], row["resolved"]
        change, bounds, q, *_ = tables.hover_numbers(row, places)
        hover[i][j] = (
            f"change {change}<br>{formats.percent(confidence)} interval {bounds}<br>q {q}<br>{row['n']} examples"
        )
    return GridPanel(name, values, resolved, hover)
