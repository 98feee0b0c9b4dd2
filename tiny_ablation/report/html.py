"""A page as HTML that opens offline; where scripts or plotly.js are missing, the static figures that it carries are shown."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_ablation.document import Figure, Page
from tiny_ablation.report import templates
from tiny_ablation.report.figures import drawing, interactive
from tiny_ablation.store.files import write_text

_LONG = 300  # characters; a longer list is left to its file
ROWS = 3000  # of a table in a page


def write_page(page: Page, path: Path, directory: Path) -> Path:
    """Write a page, and plotly.js beside its figures.

    Args:
        page: what it shows.
        path: its file.
        directory: holds the static figures, where they were drawn.
    """
    figures = [figure for section in page.sections for figure in section.figures]
    plotly = (directory / interactive.PLOTLY_JS).relative_to(path.parent).as_posix()
    shown = {figure.name: (drawing.on_screen(figure.drawn), _png(figure, directory)) for figure in figures}
    text = templates.render("page.html.j2", page=page, shown=shown, plotly=plotly)
    interactive.put_plotlyjs(directory)
    return write_text(path, text)


def _png(figure: Figure, directory: Path) -> str | None:
    """The static figure as text that a page can carry; None where it was not drawn."""
    png = directory / f"{figure.name}.png"
    return base64.b64encode(png.read_bytes()).decode("ascii") if png.is_file() else None


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
