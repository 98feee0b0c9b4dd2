"""Which figures a run has, under which names; drawn by one call."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tiny_ablation.report import tables, words
from tiny_ablation.report.figures import feature_data, feature_map, feature_panel, forest, heatmap, pairs
from tiny_ablation.report.figures.interactive import Interactive


class Drawing(NamedTuple):
    """One kind of figure.

    Attributes:
        name: the stem of its files in `artifacts/`.
        heading: above it in the page.
        caption: below it in the page: how to read it.
        write: draws both files.
        page: makes the figure for a page.
    """

    name: str
    heading: str
    caption: str
    write: Callable[..., None]
    page: Callable[..., Interactive]


_HEAD_MAP = Drawing(
    "head_map",
    "Every head",
    "Layers down, heads across. A full cell is an effect whose interval excludes 0; a grey dot is one whose "
    "interval holds 0, which this run cannot tell from none. All panels share their colours.",
    heatmap.head_map,
    heatmap.page_figure,
)
_FOREST = Drawing(
    "forest",
    "The strongest, with intervals",
    "Marks are mean changes over examples, bars their intervals. Open grey marks are unresolved: "
    "the interval holds 0.",
    forest.forest,
    forest.page_figure,
)


_PAIRS = Drawing(
    "pair_matrix",
    "Pairs of heads: more than the sum of two?",
    "Heads on both axes. Colour is the interaction: the joint effect minus the two single effects. A grey dot is one whose "
    "interval holds 0; an empty cell was not measured.",
    pairs.pair_matrix,
    pairs.page_figure,
)


def drawings(impact: pd.DataFrame) -> list[Drawing]:
    """The figures that suit an impact table."""
    first = {("layer", "head", "scale"): _HEAD_MAP, ("layer_a", "head_a", "layer_b", "head_b"): _PAIRS}
    index = tables.index_columns(impact)
    if _several_directions(impact) or index not in first:
        return [_FOREST]
    return [first[index], _FOREST]


def _several_directions(impact: pd.DataFrame) -> bool:
    """Whether a site has several rows, which one cell of a map cannot show."""
    return len(set(impact["direction"])) > 1


def figure_title(summary: Mapping[str, Any], impact: pd.DataFrame) -> str:
    """What was done, to what, on what: `heads_zero: attention heads of smollm2_135m on facts`."""
    many = words.noun(tables.index_columns(impact), 2)
    return f"{summary['kind']}: {many} of {summary['model']} on {summary['dataset']}"


def write_figures(run_dir: Path, impact: pd.DataFrame, summary: Mapping[str, Any]) -> list[str]:
    """Draw every figure of a run into `artifacts/`.

    Args:
        run_dir: the directory of the run.
        impact: its impact table.
        summary: the content of its `metrics/summary.json`.

    Returns:
        The files written, relative to `run_dir`.

    Raises:
        ResultsError: the table has no effect on the primary metric, or a file cannot be written.
    """
    written = []
    for drawing in drawings(impact):
        names = [f"artifacts/{drawing.name}.{suffix}" for suffix in ("html", "png")]
        drawing.write(
            impact,
            metric=summary["primary"],
            title=figure_title(summary, impact),
            confidence=summary.get("confidence", 0.95),
            out_html=run_dir / names[0],
            out_png=run_dir / names[1],
        )
        written += names
    if feature_data.has_features(run_dir):
        for name, draw in (
            ("feature_panel", feature_panel.feature_panel),
            ("feature_map", feature_map.feature_map),
        ):
            names = [f"artifacts/{name}.{suffix}" for suffix in ("html", "png")]
            draw(
                run_dir, impact, metric=summary["primary"], title=figure_title(summary, impact),
                out_html=run_dir / names[0], out_png=run_dir / names[1],
            )  # fmt: skip
            written += names
    return written
