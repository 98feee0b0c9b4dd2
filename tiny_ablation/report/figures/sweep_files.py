"""Which figures a sweep has, under which names; drawn by one call."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tiny_ablation.report.figures import grid, heatmap, lines, points, sweep_grids, sweep_lines, upset
from tiny_ablation.report.figures.drawing import AnyDrawing, Drawing
from tiny_ablation.report.figures.robustness import ROBUSTNESS
from tiny_ablation.report.sweep_data import Comparison, SweepData


class _Choice(NamedTuple):
    """A figure, and the comparisons that it suits."""

    suits: Callable[[Comparison], bool]
    drawing: AnyDrawing


def _note(data: grid.Grid | lines.Lines | points.Points | upset.Overlap) -> str:
    return data.note


def _two(data: Comparison) -> bool:
    return len(data.profiles) > 1


_CHOICES = (
    _Choice(
        lambda _: True,
        Drawing(
            "matrix",
            "The strongest, by condition",
            "A row is a site, a column a condition, the number its mean change. Bold rows are invariant; an outline says that "
            "the site is in that condition's top set; a grey number cannot be told from 0.",
            sweep_grids.matrix, grid.static, grid.page, _note,
        ),
    ),
    _Choice(
        _two,
        Drawing(
            "overlap",
            "What do conditions share?",
            "Each column is a group of sites that are in the top sets of exactly the conditions with a filled dot; the bar "
            "says how many. The blue bar, if there is one, is what all conditions share.",
            sweep_lines.overlap, upset.static, upset.page, _note,
        ),
    ),
    _Choice(
        sweep_grids.has_heads,
        Drawing(
            "heads",
            "Every head, by condition",
            "Layers down, heads across, a panel per condition, the same colours in all. Outlined heads are invariant; a grey "
            "dot is a change that cannot be told from 0.",
            sweep_grids.head_maps, heatmap.static, heatmap.page, heatmap.legend,
        ),
    ),
    _Choice(
        lambda data: data.index[:1] == ("layer",),
        Drawing(
            "layers",
            "Where in the model?",
            "A line per condition, from the first layer to the last. Lines that rise and fall together depend on the "
            "same depth.",
            sweep_lines.profiles, lines.static, lines.page, _note,
        ),
    ),
    _Choice(
        lambda data: _two(data) and bool(data.geometry),
        Drawing(
            "agreement",
            "Do conditions rank alike?",
            "Rank correlation of the changes at all sites, for every two conditions: 1 is the same order, 0 unrelated, "
            "-1 reversed.",
            sweep_grids.agreement, grid.static, grid.page, _note,
        ),
    ),
    _Choice(
        lambda data: len(data.geometry.get("principal_components", ())) > 1,
        Drawing(
            "conditions",
            "How far apart are the conditions?",
            "The two directions in which the conditions differ most. Near each other: they depend on the same sites.",
            sweep_lines.condition_map, points.static, points.page, _note,
        ),
    ),
)  # fmt: skip


def drawings(data: Comparison) -> list[AnyDrawing]:
    """The figures that suit a comparison; their names tell comparisons apart."""
    stem = f"{data.table.removesuffix('_impact')}_{data.metric}_{data.model}"
    stem = re.sub(r"[^\w.-]", "-", stem)  # a model's name comes from a config
    return [replace(c.drawing, name=f"{c.drawing.name}_{stem}") for c in _CHOICES if c.suits(data)]


def write_sweep_figures(data: SweepData) -> list[Path]:
    """Draw every figure of a sweep into `artifacts/cross_condition/`; equal files give equal bytes.

    Returns:
        The files written.
    """
    robust = ROBUSTNESS.write(data.robustness, data.sweep.cross) if data.robustness else []
    return robust + [
        path
        for comparison in data.comparisons
        for drawing in drawings(comparison)
        for path in drawing.write(comparison, data.sweep.cross)
    ]
