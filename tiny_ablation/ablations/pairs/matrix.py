"""The pair matrix: which heads do more, or less, together than the sum of what each does alone.

Heads on both axes, each pair once, coloured by its interaction; the diagonal is empty, since a head is no pair.
"""

import numpy as np

from tiny_ablation import formats
from tiny_ablation.document import Figure
from tiny_ablation.document.figures import Grid, GridPanel, symmetric_limit
from tiny_ablation.models.labels import head_label
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.run.result import Result

_NUMBERS = ("interaction", "delta", "delta_a", "delta_b")


def pair_matrix(result: Result) -> Figure:
    """The interactions of every pair: the earlier head down, the later across.

    Raises:
        ResultsError: the table has no effect on the metric.
    """
    return Figure(
        "pair_matrix",
        "Pairs of heads: more than the sum of two?",
        "Heads on both axes. Colour is the interaction: the joint effect minus the two single effects. A grey dot is one "
        "whose interval includes 0; an empty cell was not measured.",
        matrix(result),
    )


def matrix(result: Result) -> Grid:
    """What the figure draws."""
    rows, metric = result.rows, result.metric
    ends = [list(zip(rows[f"layer_{end}"], rows[f"head_{end}"], strict=True)) for end in ("a", "b")]
    heads = sorted({head for end in ends for head in end})
    place = {head: i for i, head in enumerate(heads)}
    n, places = len(heads), formats.decimals(rows["interaction"])
    values, resolved = np.full((n, n), np.nan), np.zeros((n, n), dtype=bool)
    hover: list[list[tuple[str, ...]]] = [[()] * n for _ in heads]
    for a, b, row in zip(*ends, rows.to_dict("records"), strict=True):
        i, j = sorted((place[a], place[b]))
        low, high = row["interaction_low"], row["interaction_high"]
        values[i, j], resolved[i, j] = row["interaction"], not formats.holds_zero(low, high)
        numbers = (formats.signed(row[name], places) for name in _NUMBERS)
        hover[i][j] = *numbers, formats.interval(low, high, places)
    labels = [head_label(layer, head) for layer, head in heads]
    return Grid(
        name=f"pair-matrix-{metric}",
        kind="Pair matrix",
        title=result.title,
        note=f"{effects.examples(rows)}; joint effect on {metric} minus the two single effects; grey dot: the "
        f"{result.percent} interval includes 0",
        rows=labels,
        columns=labels,
        axes=("earlier head", "later head"),
        colour=f"interaction in {metric} ({vocabulary.metric_vocabulary(metric).unit})",
        limit=symmetric_limit(rows["interaction"]),
        panels=[GridPanel("", values, resolved, hover)],
        square=True,
        hover=f"interaction {{0}}\n{result.percent} interval {{4}}\ntogether {{1}}, alone {{2}} and {{3}}",
    )
