"""Interactive figures: a small page each, beside plotly.js, of which a user's runs share one copy; nothing is fetched."""

import html
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plotly
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from tiny_ablation.document.figures import round_ticks, tick_text
from tiny_ablation.errors import ResultsError
from tiny_ablation.paths import cache_dir
from tiny_ablation.report import templates
from tiny_ablation.report.figures import style
from tiny_ablation.store.files import write_text, write_via

PLOTLY_JS = "plotly.min.js"


class Interactive(NamedTuple):
    """A figure for a page."""

    name: str  # identifies it in its page; the same for equal runs
    figure: go.Figure  # what plotly draws
    description: str  # what it shows, for those who do not see it
    min_width: int = 0  # pixels below which it scrolls instead of shrinking

    def json(self) -> str:
        """The figure as JSON that may stand inside a script element: `<`, `>` and `/` are escaped."""
        text = self.figure.to_json()
        assert text is not None
        return text.replace("<", "\\u003c").replace(">", "\\u003e")


def safe(text: str) -> str:
    """`text` so that plotly shows it as it is; plotly reads a few HTML tags in titles and hovers."""
    return html.escape(text, quote=False)


def colour_axis(figure: go.Figure, label: str, bottom: int, limit: float) -> dict[str, Any]:
    """The colours of a figure from -limit to limit, with a bar at its foot and a label above that.

    The label is an annotation, `bottom` (at least 75) pixels below the axes: plotly lays a bar's own title over the bar where
    the figure is not high.
    """
    place = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0, "yshift": 42 - bottom}
    figure.add_annotation(text=safe(label), **place, yanchor="bottom", xanchor="center", showarrow=False)
    ticks, last = round_ticks(limit), len(style.DIVERGING) - 1
    shape = {"orientation": "h", "thickness": 11, "len": 0.9, "y": 0, "yref": "container", "yanchor": "bottom"}
    bar = {**shape, "tickvals": ticks, "ticktext": list(map(tick_text, ticks)), "outlinewidth": 0}
    scale = [(i / last, colour) for i, colour in enumerate(style.DIVERGING)]
    return {"colorscale": scale, "cmin": -limit, "cmid": 0, "cmax": limit, "colorbar": bar}


def without_colours() -> go.Scatter:
    """A trace that shows nothing; where no cell has a colour, plotly would leave out the colour bar."""
    return go.Scatter(x=[None], y=[None], marker={"color": [0], "coloraxis": "coloraxis"}, showlegend=False)


def headings(names: Sequence[str], width: int) -> tuple[list[str], int]:
    """The names of panels that are so many pixels wide, broken into lines, and how many lines the longest has."""
    lines = [textwrap.wrap(name, max(8, width // 7)) for name in names]
    return ["<br>".join(map(safe, found)) for found in lines], max(map(len, lines), default=1)


def outline(x: int, y: int) -> dict[str, Any]:
    """A frame around the cell of a map at column `x` and row `y`."""
    edges = {"x0": x - 0.47, "x1": x + 0.47, "y0": y - 0.47, "y1": y + 0.47}
    return {"type": "rect", **edges, "line": {"color": style.INK, "width": 2}, "layer": "above"}


def base_layout(height: int) -> dict:
    """What all figures share; the page's script recolours it in dark mode."""
    return {
        "template": "none",
        "height": height,
        "autosize": True,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": style.WEB_FONT, "size": style.WEB_SIZE, "color": style.INK},
        "hoverlabel": {"align": "left", "font": {"family": style.WEB_FONT}},
        "dragmode": False,
    }


def save(figure: Interactive, title: str, note: str, path: Path) -> None:
    """Write the figure as a page of its own, and plotly.js beside it."""
    page = templates.render("figure.html.j2", figure=figure, title=title, note=note, plotly=PLOTLY_JS)
    write_text(path, page)
    put_plotlyjs(path.parent)


def put_plotlyjs(directory: Path) -> None:
    """See to it that `directory` holds this version's plotly.js: where possible a link to the user's one copy, in the cache."""
    path, source = directory / PLOTLY_JS, get_plotlyjs()
    if _holds(path, source):
        return
    shared = cache_dir() / "page" / f"plotly-{plotly.__version__}.min.js"
    try:
        if not _holds(shared, source):
            write_text(shared, source)
        write_via(path, lambda temporary: os.link(shared, temporary))
    except (OSError, ResultsError):  # another file system, one without links, or a cache that cannot be written
        write_text(path, source)


def _holds(path: Path, source: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == source
