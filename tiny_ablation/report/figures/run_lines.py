"""Reading lines off a run: effects by layer, and how an effect grows with the strength of the intervention."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.report import tables, vocabulary
from tiny_ablation.report.figures.lines import Line, LinePanel, Lines
from tiny_ablation.report.figures.source import RunSource

_HEADS = 6  # lines that can still be told apart


def is_layered(source: RunSource) -> bool:
    """Whether effects are by layer and granularity, on enough layers for a line."""
    return source.index == ("layer", "granularity") and len(set(source.impact["layer"])) > 1


def layer_profile(source: RunSource) -> Lines:
    """Effects by layer: a panel per granularity, a line per direction, the intervals as bands."""
    rows = tables.effects(source.impact, source.metric)
    return Lines(
        name=f"layer-profile-{source.metric}",
        kind="Layer profile",
        title=source.title,
        note=f"{tables.examples(rows)}; bands are {formats.percent(source.confidence)} intervals; open marks are unresolved",
        x_title="layer",
        y_title=vocabulary.change_label(source.metric),
        panels=list(_granularities(rows)),
        legend="direction",
        interval=f"{formats.percent(source.confidence)} interval",
    )


def _granularities(rows: pd.DataFrame) -> Iterator[LinePanel]:
    for name, part in rows.groupby("granularity", sort=False):
        lines = [
            _line(str(direction), same, "layer") for direction, same in part.groupby("direction", sort=False)
        ]
        yield LinePanel(str(name), lines)


def _line(name: str, rows: pd.DataFrame, x: str) -> Line:
    rows = rows.sort_values(x, kind="stable")
    return Line(name, *(rows[column].to_numpy(dtype=float) for column in (x, "delta", "ci_low", "ci_high")))


def has_scales(source: RunSource) -> bool:
    """Whether sites were scaled by several factors."""
    if source.index != ("layer", "head", "scale") or source.several_directions:
        return False
    return len(set(source.impact["scale"])) > 2


def scales(source: RunSource) -> Lines:
    """The effect of the strongest heads at every factor, a panel each; 1 leaves the head as it is."""
    rows = tables.effects(source.impact, source.metric)
    whole = tables.where(source.impact, source.impact["metric"] == source.metric)
    strongest = tables.strongest(tables.at_scale(rows, tables.scales(rows)[0]), _HEADS)
    panels = []
    for row in strongest.to_dict("records"):
        mine = tables.where(whole, (whole["layer"] == row["layer"]) & (whole["head"] == row["head"]))
        panels.append(LinePanel(tables.label(row, source.index), [_line("change", mine, "scale")]))
    return Lines(
        name=f"scales-{source.metric}",
        kind="Effect by scale",
        title=source.title,
        note=f"the {len(panels)} strongest heads; {tables.examples(rows)}; bands are {formats.percent(source.confidence)} "
        "intervals; scale 1 leaves a head as it is, 0 removes it",
        x_title="scale",
        y_title=vocabulary.change_label(source.metric),
        panels=panels,
        interval=f"{formats.percent(source.confidence)} interval",
        ticks=tuple(sorted({float(scale) for scale in np.unique(whole["scale"])})),
    )
