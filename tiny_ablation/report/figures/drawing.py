"""A figure from its specification: for a page, and as files of its own: a page, a PNG, and a PDF and an SVG for papers."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tiny_ablation.document import Figure
from tiny_ablation.document.figures import Bars, Grid, Lines, Overlap, Points
from tiny_ablation.report.figures import bars, canvas, feature_map, grid, interactive, lines, points, upset
from tiny_ablation.report.figures.interactive import Interactive

# Each draws with `static(data)` for print and with `page(data)` for the screen.
_FAMILIES: dict[type, ModuleType] = {
    Grid: grid,
    Lines: lines,
    Points: points,
    Bars: bars,
    Overlap: upset,
    feature_map.FeatureMap: feature_map,
}


def on_screen(drawn: Any) -> Interactive:
    """The interactive figure, to be put into a page."""
    return _FAMILIES[type(drawn)].page(drawn)


def on_paper(drawn: Any) -> Any:
    """The figure for print; inside `canvas.settings()`."""
    return _FAMILIES[type(drawn)].static(drawn)


def write(figure: Figure, directory: Path) -> list[Path]:
    """Draw a figure into `directory` as a page (plotly.js is put beside it), as PNG, PDF and SVG; equal figures, equal bytes.

    In PDF and SVG the title is left out, since a paper has a caption.

    Raises:
        ResultsError: a file cannot be written.
    """
    page, *printed = (directory / f"{figure.name}.{kind}" for kind in ("html", "png", "pdf", "svg"))
    with canvas.settings():
        canvas.save(on_paper(figure.drawn), printed[0])
        bare = on_paper(replace(figure.drawn, title="", note=""))
        for path in printed[1:]:
            canvas.save(bare, path)
    interactive.save(on_screen(figure.drawn), figure.drawn.title, f"{figure.drawn.note}. {figure.caption}", page)
    return [page, *printed]
