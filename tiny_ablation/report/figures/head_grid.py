"""The numbers of a head map as arrays, one panel per scale."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.errors import ResultsError
from tiny_ablation.models.labels import head_label
from tiny_ablation.report import tables, vocabulary
from tiny_ablation.report.figures import style

_INDEX = ("layer", "head", "scale")
_MOST = 250_000  # heads in one map, ten times those of the largest models
_PANELS = 12  # more scales than these make maps too small to read, and hundreds of them take minutes to draw


@dataclass(frozen=True)
class Panel:
    """One scale as arrays of shape (layers, heads); NaN where nothing was measured."""

    name: str
    delta: np.ndarray
    resolved: np.ndarray
    hover: list[list[tuple[str, ...]]]


@dataclass(frozen=True)
class HeadGrid:
    """Everything that both renderings of a head map draw.

    Attributes:
        metric: what the effects are on.
        title: what was done, to what, on what.
        note: examples and baseline.
        percent: of the intervals, such as `95 %`.
        limit: the colours reach from minus this to this.
        layers: the rows, without gaps.
        heads: the columns, without gaps.
        panels: the strongest intervention first.
        marked: heads with an outline, as (layer, head).
        name: identifies the figure in a page.
        hover: what a pointer is told of a head whose interval excludes 0, and of one whose interval holds it; plotly puts the
            numbers of `Panel.hover` into it.
        marks: what a coloured cell and a grey dot are, in the legend.
    """

    metric: str
    title: str
    note: str
    percent: str
    limit: float
    layers: np.ndarray
    heads: np.ndarray
    panels: list[Panel]
    name: str
    hover: tuple[str, ...]
    marked: frozenset[tuple[int, int]] = frozenset()
    marks: tuple[str, str] = ("interval excludes 0", "interval holds 0: unresolved")

    @property
    def has_gaps(self) -> bool:
        """Whether some head of the rectangle was not measured."""
        return any(np.isnan(panel.delta).any() for panel in self.panels)


def collect(impact: pd.DataFrame, metric: str, title: str, confidence: float) -> HeadGrid:
    """Read a head map off an impact table; the colours reach equally far in all panels. Of many scales it shows a dozen.

    Args:
        impact: the rows of a head-level impact table of one run; those at scale 1 are left out.
        metric: the metric to show.
        title: what was done, to what, on what.
        confidence: of the intervals in `impact`.

    Raises:
        ResultsError: the table has no effect on `metric`, or several rows per head.
    """
    rows = tables.effects(impact, metric)
    found = [rows[name].to_numpy(dtype=np.int64) for name in _INDEX[:2]]
    ends = [(int(of.min()), int(of.max()) + 1) for of in found]
    if math.prod(end - start for start, end in ends) > _MOST:
        raise ResultsError(
            f"the head map would have more than {_MOST:,} heads, so the table names heads of no model"
        )
    layers, heads = (np.arange(*of) for of in ends)
    if rows.duplicated(list(_INDEX)).to_numpy().any():
        raise ResultsError(
            "the head map draws one intervention of one run, and the table has several rows per head"
        )
    scales, shown = tables.scales(rows), _shown(tables.scales(rows))
    left_out = f"; {len(shown)} of {len(scales)} scales are shown" if len(shown) < len(scales) else ""
    places = formats.decimals(rows["delta"])
    baseline = formats.plain(rows["baseline"].iloc[0], places)
    return HeadGrid(
        metric=metric,
        title=title,
        note=f"{tables.examples(rows)}; baseline {metric} {baseline} {vocabulary.metric_vocabulary(metric).unit}{left_out}",
        percent=formats.percent(confidence),
        limit=style.symmetric_limit(rows["delta"]),
        layers=layers,
        heads=heads,
        panels=[_panel(tables.at_scale(rows, scale), scale, layers, heads, places) for scale in shown],
        name=f"head-map-{metric}",
        hover=tuple(
            tables.hover_template(
                formats.percent(confidence), resolved=known, site=head_label("%{y}", "%{x}")
            )
            for known in (True, False)
        ),
    )


def _shown(scales: list[float | None]) -> list[float | None]:
    """The scales that a map has room for: the strongest, the weakest, and others evenly between them."""
    n = min(len(scales), _PANELS)
    return [scales[round(i * (len(scales) - 1) / max(1, n - 1))] for i in range(n)]


def _panel(
    rows: pd.DataFrame, scale: float | None, layers: np.ndarray, heads: np.ndarray, places: int
) -> Panel:
    def grid(column: str) -> np.ndarray:
        table = rows.pivot(index="layer", columns="head", values=column)
        return table.reindex(index=layers, columns=heads).to_numpy()

    return Panel(
        name="" if scale is None else f"scale {scale:g}" + (" (set to zero)" if scale == 0.0 else ""),
        delta=grid("delta").astype(float),
        resolved=grid("resolved") == True,  # noqa: E712 - NaN marks a gap and is not True
        hover=_hover(rows, layers, heads, places),
    )


def _hover(
    rows: pd.DataFrame, layers: np.ndarray, heads: np.ndarray, places: int
) -> list[list[tuple[str, ...]]]:
    found = {
        (row["layer"], row["head"]): tables.hover_numbers(row, places) for row in rows.to_dict("records")
    }
    return [[found.get((layer, head), ()) for head in heads] for layer in layers]
