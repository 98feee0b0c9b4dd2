"""What the pages of runs and sweeps share: figures to embed, provenance as pairs, commands as text."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiny_ablation.report.figures.drawing import AnyDrawing
from tiny_ablation.report.figures.interactive import Interactive

_LONG = 300  # characters; a longer list is left to its file


class PageFigure(NamedTuple):
    """One figure of a page.

    Attributes:
        drawing: its heading and caption.
        figure: for plotly.
        png: the static figure as text that a page can carry; None where it was not drawn.
    """

    drawing: AnyDrawing
    figure: Interactive
    png: str | None


def page_figure(drawing: AnyDrawing, source: Any, directory: Path) -> PageFigure:
    """A figure with its static twin from `directory`, for where scripts or plotly.js are missing."""
    png = directory / f"{drawing.name}.png"
    carried = base64.b64encode(png.read_bytes()).decode("ascii") if png.is_file() else None
    return PageFigure(drawing, drawing.page(source), carried)


def pairs(obj: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested keys as `machine.cpu`; None as `-`."""
    found = []
    for key, value in obj.items():
        if isinstance(value, Mapping):
            found += pairs(value, f"{above}{key}.")
        else:
            found.append((f"{above}{key}", _shown(value)))
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Sequence) and not isinstance(value, str) and len(text) > _LONG:
        return f"{len(value)} entries, in provenance.json"
    return text
