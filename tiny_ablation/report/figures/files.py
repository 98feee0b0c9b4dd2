"""Which figures a run has, under which names; drawn by one call."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tiny_ablation.report.figures import faithfulness, feature_map, feature_panel, forest, heatmap, pairs
from tiny_ablation.report.figures.drawing import AnyDrawing, Drawing
from tiny_ablation.report.figures.feature_data import has_features
from tiny_ablation.report.figures.head_grid import collect as collect_heads
from tiny_ablation.report.figures.source import RunSource, of_impact
from tiny_ablation.results.rundir import RunDir


class _Choice(NamedTuple):
    """A figure, and the runs that it suits."""

    suits: Callable[[RunSource], bool]
    drawing: AnyDrawing


def _one_row_per(*index: str) -> Callable[[RunSource], bool]:
    return lambda source: source.index == index and not source.several_directions


_CHOICES = (
    _Choice(
        _one_row_per("layer", "head", "scale"),
        Drawing(
            "head_map",
            "Every head",
            "Layers down, heads across. A full cell is an effect whose interval excludes 0; a grey dot is one whose "
            "interval holds 0, which this run cannot tell from none. All panels share their colours.",
            of_impact(collect_heads), heatmap.static, heatmap.page, heatmap.legend,
        ),
    ),
    _Choice(
        _one_row_per("layer_a", "head_a", "layer_b", "head_b"),
        Drawing(
            "pair_matrix",
            "Pairs of heads: more than the sum of two?",
            "Heads on both axes. Colour is the interaction: the joint effect minus the two single effects. A grey dot is one "
            "whose interval holds 0; an empty cell was not measured.",
            of_impact(pairs.collect), pairs.static, pairs.page, lambda data: data.note,
        ),
    ),
    _Choice(
        lambda source: bool(source.summary.get("circuit")),
        Drawing(
            "faithfulness",
            "How much of the behaviour do circuits carry?",
            "Left: only the circuit works; f is 1 for the whole model and 0 with every head replaced. Right: only the circuit "
            "is replaced; a complete circuit leaves nothing. Grey: random circuits with as many heads in each layer.",
            faithfulness.collect, faithfulness.static, faithfulness.page, lambda data: data.note,
        ),
    ),
    _Choice(
        has_features,
        Drawing(
            "feature_map",
            "The map of features",
            "Decoder directions on a plane, near each other where they point alike. Grey is every feature of the autoencoder, "
            "larger where it is active more often; colour is the change that switching it off makes.",
            feature_map.collect, feature_map.static, feature_map.page, feature_map.legend,
        ),
    ),
    _Choice(
        lambda source: not source.summary.get("circuit"),
        Drawing(
            "forest",
            "The strongest, with intervals",
            "Marks are mean changes over examples, bars their intervals. Open grey marks are unresolved: "
            "the interval holds 0.",
            of_impact(forest.collect), forest.static, forest.page, forest.legend,
        ),
    ),
)  # fmt: skip


def drawings(source: RunSource) -> list[AnyDrawing]:
    """The figures that suit a run."""
    return [choice.drawing for choice in _CHOICES if choice.suits(source)]


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
    source = RunSource(RunDir(run_dir), impact, summary)
    written = [path for drawing in drawings(source) for path in drawing.write(source, source.run.artifacts)]
    if has_features(source):
        written += feature_panel.write(source, source.run.artifacts)
    return [path.relative_to(run_dir).as_posix() for path in written]
