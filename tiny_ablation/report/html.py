"""A page as HTML that opens offline; where scripts or plotly.js are missing, the static figures that it carries are shown."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_ablation.document import Page
from tiny_ablation.report import templates
from tiny_ablation.report.figures import drawing, interactive
from tiny_ablation.store.files import write_text

_LONG = 300  # characters; a longer list is left to its file
ROWS = 3000  # of a table in a page


def write_page(page: Page, path: Path, directory: Path) -> Path:
    """Write a page to `path`, with the static figures that `directory` holds, and put plotly.js beside these."""
    shown = {}
    for figure in (figure for section in page.sections for figure in section.figures):
        png = directory / f"{figure.name}.png"
        static = base64.b64encode(png.read_bytes()).decode("ascii") if png.is_file() else None
        shown[figure.name] = drawing.on_screen(figure.drawn), static
    plotly = (directory / interactive.PLOTLY_JS).relative_to(path.parent).as_posix()
    text = templates.render("page.html.j2", page=page, shown=shown, plotly=plotly)
    interactive.put_plotlyjs(directory)
    return write_text(path, text)


def pairs(obj: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested keys as `machine.cpu`; None as `-`."""
    found = []
    for key, value in obj.items():
        if isinstance(value, Mapping):
            found += pairs(value, f"{above}{key}.")
            continue
        text = "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if isinstance(value, list | tuple) and len(text) > _LONG:
            text = f"{len(value)} entries, in provenance.json"
        found.append((f"{above}{key}", text))
    return found
