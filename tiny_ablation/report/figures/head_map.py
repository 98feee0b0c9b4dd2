"""Maps of heads: layers down, heads across, a panel per scale, condition or template, the same colours in all."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tiny_ablation import formats
from tiny_ablation.document.figures import Grid, GridPanel, Key, symmetric_limit
from tiny_ablation.errors import ResultsError
from tiny_ablation.models.labels import head_label
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.run.result import Result

_MOST = 250_000  # heads in one map, ten times those of the largest models
_PANELS = 12  # more scales than these make maps too small to read, and hundreds of them take minutes to draw


def head_grid(
    panels: Mapping[str, Iterable[tuple[int, int, float, bool, tuple[str, ...]]]],
    metric: str,
    marked: Sequence[tuple[int, int]] = (),
    **words: Any,
) -> Grid:
    """A map of heads, without gaps from the first layer and head to the last; `words` are further fields of the `Grid`.

    A panel is a list of heads: layer, head, change, whether it is resolved, and the texts of its hover; `marked` heads
    (layer, head) get an outline.

    Raises:
        ResultsError: a head is beyond any model.
    """
    cells = {name: list(found) for name, found in panels.items()}
    ends = [
        (min(places), max(places) + 1)
        for places in zip(*((layer, head) for found in cells.values() for layer, head, *_ in found), strict=True)
    ]
    if math.prod(end - start for start, end in ends) > _MOST:
        raise ResultsError(f"the head map would have more than {_MOST:,} heads, so the table names heads of no model")
    (first_layer, _), (first_head, _) = ends
    layers, heads = (range(*of) for of in ends)
    outlines = np.zeros((len(layers), len(heads)), dtype=bool)
    for layer, head in marked:
        outlines[layer - first_layer, head - first_head] = True
    drawn = []
    for name, found in cells.items():
        values = np.full(outlines.shape, np.nan)
        resolved = np.zeros(outlines.shape, dtype=bool)
        hover: list[list[tuple[str, ...]]] = [[() for _ in heads] for _ in layers]
        for layer, head, delta, sure, texts in found:
            at = int(layer) - first_layer, int(head) - first_head
            values[at], resolved[at], hover[at[0]][at[1]] = delta, sure, texts
        drawn.append(GridPanel(name, values, resolved, hover, outlines))
    said = vocabulary.metric_vocabulary(metric)
    options: dict[str, Any] = {"key": Key(said.less, said.more), **words}
    return Grid(
        kind="Head map",
        rows=[str(layer) for layer in layers],
        columns=[str(head) for head in heads],
        axes=("layer", "head"),
        colour=vocabulary.change_label(metric),
        limit=symmetric_limit(np.concatenate([p.values.ravel() for p in drawn])),
        panels=drawn,
        site=head_label("{row}", "{column}"),
        **options,
    )


def scale_maps(result: Result) -> Grid:
    """The map of a run, a panel per scale, the strongest first; those at scale 1 are left out, and of many a dozen is shown.

    Raises:
        ResultsError: the table has no effect on the metric, or several rows per head.
    """
    rows = result.rows
    if rows.duplicated(["layer", "head", "scale"]).to_numpy().any():
        raise ResultsError("the head map draws one intervention of one run, and the table has several rows per head")
    scales = effects.scales(rows)
    n = min(len(scales), _PANELS)
    shown = [scales[round(i * (len(scales) - 1) / max(1, n - 1))] for i in range(n)]  # both ends, and evenly between
    left_out = f"; {n} of {len(scales)} scales are shown" if n < len(scales) else ""
    places, unit = formats.decimals(rows["delta"]), vocabulary.metric_vocabulary(result.metric).unit
    baseline = formats.plain(rows["baseline"].iloc[0], places)
    return head_grid(
        {
            "" if scale is None else f"scale {scale:g}" + (" (set to zero)" if scale == 0.0 else ""): [
                (row["layer"], row["head"], row["delta"], row["resolved"], effects.hover_numbers(row, places))
                for row in effects.at_scale(rows, scale).to_dict("records")
            ]
            for scale in shown
        },
        result.metric,
        name=f"head-map-{result.metric}",
        title=result.title,
        note=f"{effects.examples(rows)}; baseline {result.metric} {baseline} {unit}{left_out}",
        hover=effects.hover_template(result.percent),
    )
