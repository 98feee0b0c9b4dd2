"""Which figures a run has, under which names; drawn by one call."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd

from tiny_ablation.report.evidence import own_sections
from tiny_ablation.report.figures import (
    faithfulness,
    feature_map,
    feature_panel,
    forest,
    grid,
    heatmap,
    lines,
    pairs,
    points,
    run_grids,
    run_lines,
    run_points,
    run_templates,
    timeline,
)
from tiny_ablation.report.figures.drawing import AnyDrawing, Drawing
from tiny_ablation.report.figures.feature_data import has_features
from tiny_ablation.report.figures.head_grid import collect as collect_heads
from tiny_ablation.report.figures.source import RunSource, of_impact
from tiny_ablation.store.rundir import RunDir


class _Choice(NamedTuple):
    """A figure, and the runs that it suits."""

    suits: Callable[[RunSource], bool]
    drawing: AnyDrawing


class _Noted(Protocol):
    @property
    def note(self) -> str: ...


def _own_figures(source: RunSource) -> set[str]:
    """The figures that the run's ablation asks for in place of the strongest sites."""
    return {section.figure for section in own_sections(source.summary) if section.figure}


def _note(data: _Noted) -> str:
    return data.note


def _one_row_per(*index: str) -> Callable[[RunSource], bool]:
    return lambda source: source.index == index and not source.several_directions


_TEMPLATES, _WORDING = "templates", "Does it hold for every wording?"
_CHOICES = (
    _Choice(
        _one_row_per("layer", "head", "scale"),
        Drawing(
            "head_map",
            "Every head",
            "Layers down, heads across. A full cell is an effect whose interval excludes 0; a grey dot "
            "is one whose interval holds 0, which this run cannot tell from none. All panels share their colours.",
            of_impact(collect_heads), heatmap.static, heatmap.page, heatmap.legend, signed=True,
        ),
    ),
    _Choice(
        _one_row_per("layer_a", "head_a", "layer_b", "head_b"),
        Drawing(
            "pair_matrix",
            "Pairs of heads: more than the sum of two?",
            "Heads on both axes. Colour is the interaction: the joint effect minus the two single effects. A grey dot is one "
            "whose interval holds 0; an empty cell was not measured.",
            of_impact(pairs.collect), grid.static, grid.page, _note,
        ),
    ),
    _Choice(
        lambda source: "faithfulness" in _own_figures(source),
        Drawing(
            "faithfulness",
            "How much of the behaviour do circuits carry?",
            "Left: only the circuit works; f is 1 for the whole model and 0 with every head replaced. Right: only the circuit "
            "is replaced; a complete circuit leaves nothing. Grey: random circuits with as many heads in each layer.",
            faithfulness.collect, faithfulness.static, faithfulness.page, _note,
        ),
    ),
    _Choice(
        has_features,
        Drawing(
            "feature_map",
            "The map of features",
            "Decoder directions on a plane, near each other where they point alike. Grey is every feature of the autoencoder, "
            "larger where it is active more often; colour is the change that switching it off makes, an open circle one that "
            "cannot be told from none.",
            feature_map.collect, feature_map.static, feature_map.page, _note, signed=True,
        ),
    ),
    _Choice(
        run_grids.is_trace,
        Drawing(
            "trace",
            "Where and when: positions by layers",
            "Positions of the prompt down, layers across. A full cell is an effect whose interval excludes 0; a grey dot "
            "is one whose interval holds 0.",
            run_grids.trace, grid.static, grid.page, _note, signed=True,
        ),
    ),
    _Choice(
        run_lines.is_layered,
        Drawing(
            "layer_profile",
            "From the first layer to the last",
            "A panel for each kind of activation, a line for each direction; the band is the interval. Open "
            "marks are unresolved.",
            run_lines.layer_profile, lines.static, lines.page, _note,
        ),
    ),
    _Choice(
        lambda source: not _own_figures(source),
        Drawing(
            "forest",
            "The strongest, with intervals",
            "Marks are mean changes over examples, bars their intervals. Open grey marks are unresolved: "
            "the interval holds 0.",
            of_impact(forest.collect), forest.static, forest.page, forest.legend, signed=True,
        ),
    ),
    _Choice(
        run_lines.has_scales,
        Drawing(
            "scales",
            "How the effect grows",
            "The strongest heads at every factor they were scaled by: 1 leaves a head as it is, 0 removes it.",
            run_lines.scales, lines.static, lines.page, _note,
        ),
    ),
    _Choice(
        run_points.has_asymmetry,
        Drawing(
            "asymmetry",
            "Restoring against breaking",
            "Each point is a site. Above the line it restores more than its loss breaks: it is enough, but something else can "
            "stand in for it. Grey points cannot be told from the line.",
            run_points.asymmetry, points.static, points.page, _note,
        ),
    ),
    _Choice(
        run_templates.has_head_maps,
        Drawing(
            _TEMPLATES, _WORDING,
            "The map of all heads, drawn for each template, with the same colours in all: means over its examples. Heads whose "
            "interval over all examples holds 0 stay grey.",
            run_templates.head_maps, heatmap.static, heatmap.page, _note, signed=True,
        ),
    ),
    _Choice(
        run_templates.has_profiles,
        Drawing(
            _TEMPLATES, _WORDING,
            "The layer profile, drawn for each template on the same axes: means over its examples. Open marks are unresolved: "
            "the interval over all examples holds 0.",
            run_templates.profiles, lines.static, lines.page, _note,
        ),
    ),
    _Choice(
        run_templates.has_others,
        Drawing(
            _TEMPLATES, _WORDING,
            "The strongest sites down, templates across: means over the examples of a template. Sites whose interval over all "
            "examples holds 0 stay grey.",
            run_templates.others, grid.static, grid.page, _note, signed=True,
        ),
    ),
    _Choice(
        run_points.has_verify,
        Drawing(
            "verify",
            "Computed again",
            "Effects in this run against the same effects from the plain reference: on the line they are equal.",
            run_points.verify, points.static, points.page, _note,
        ),
    ),
    _Choice(
        timeline.has_profile,
        Drawing(
            "timeline",
            "Where the time went",
            "The stages of the run, one after the other: time, most memory, processor cores in use. tokens/s are token "
            "positions that went into forward passes; shared prefixes make them fewer than interventions x prompts.",
            timeline.collect, timeline.static, timeline.page, _note,
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
