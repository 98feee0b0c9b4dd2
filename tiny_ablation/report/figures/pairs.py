"""The pair matrix: which heads do more, or less, together than the sum of what each does alone.

Heads on both axes, each pair once, coloured by its interaction; the diagonal is empty, since a head is no pair.
"""

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.models.labels import head_label
from tiny_ablation.report import tables, vocabulary
from tiny_ablation.report.figures import style
from tiny_ablation.report.figures.grid import Grid, GridPanel


def collect(impact: pd.DataFrame, metric: str, title: str, confidence: float) -> Grid:
    """Read the interactions of every pair off an impact table: the earlier head down, the later across.

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
    labels = [head_label(layer, head) for layer, head in heads]
    return Grid(
        name=f"pair-matrix-{metric}",
        kind="Pair matrix",
        title=title,
        note=f"{tables.examples(rows)}; joint effect on {metric} minus the two single effects; grey dot: the "
        f"{formats.percent(confidence)} interval holds 0",
        rows=labels,
        columns=labels,
        axes=("earlier head", "later head"),
        colour=f"interaction in {metric} ({vocabulary.metric_vocabulary(metric).unit})",
        limit=style.symmetric_limit(rows["interaction"]),
        panels=[_panel(rows, ends, {head: i for i, head in enumerate(heads)}, confidence)],
        square=True,
    )


def _panel(
    rows: pd.DataFrame,
    ends: list[list[tuple[int, int]]],
    place: dict[tuple[int, int], int],
    confidence: float,
) -> GridPanel:
    n, places = len(place), formats.decimals(rows["interaction"])
    values, resolved = np.full((n, n), np.nan), np.zeros((n, n), dtype=bool)
    hover = [[""] * n for _ in place]
    for a, b, row in zip(*ends, rows.to_dict("records"), strict=True):
        i, j = sorted((place[a], place[b]))
        values[i, j] = row["interaction"]
        resolved[i, j] = not formats.holds_zero(row["interaction_low"], row["interaction_high"])
        hover[i][j] = _numbers(row, places, formats.percent(confidence))
    return GridPanel("", values, resolved, hover)


def _numbers(row: dict, places: int, percent: str) -> str:
    bounds = formats.interval(row["interaction_low"], row["interaction_high"], places)
    parts = [formats.signed(row[name], places) for name in ("interaction", "delta", "delta_a", "delta_b")]
    return f"interaction {parts[0]}<br>{percent} interval {bounds}<br>together {parts[1]}, alone {parts[2]} and {parts[3]}"
