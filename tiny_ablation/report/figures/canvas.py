"""Static figures: matplotlib without global state, saved to bytes that depend on the data alone."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text

from tiny_ablation.document.figures import round_ticks, tick_text
from tiny_ablation.report.figures import style
from tiny_ablation.report.figures.fonts import choose, drawable
from tiny_ablation.store.files import write_via

_MARGIN = 0.3  # inches
_METADATA = {"png": ["Software"], "pdf": ["Creator", "Producer", "CreationDate"], "svg": ["Creator", "Date"]}
_SETTINGS: dict[Any, Any] = {
    "font.family": [style.FONT],
    "text.color": style.INK,
    "axes.labelcolor": style.INK,
    "xtick.color": style.INK,
    "ytick.color": style.INK,
    "axes.unicode_minus": False,
    "hatch.linewidth": 0.6,
    "path.sketch": None,
    "pdf.fonttype": 42,  # fonts that a publisher takes, and text that can be searched
    "svg.fonttype": "none",
    "svg.hashsalt": "tiny-ablate",
    "text.usetex": False,
    "text.parse_math": False,  # names come from users' files
}


def settings():
    """A context in which figures look the same whatever the user's matplotlibrc says."""
    return matplotlib.rc_context(_SETTINGS)


def diverging() -> LinearSegmentedColormap:
    """The diverging scale."""
    return LinearSegmentedColormap.from_list("tiny_ablate", style.DIVERGING, N=511)


def blank(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    figure = Figure(figsize=(width, height), dpi=style.DPI, facecolor=style.PAPER)
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes whose corner lies `left` and `top` inches from the figure's upper left corner, without a frame."""
    full_width, full_height = figure.get_size_inches()
    bottom = full_height - top - height
    axes = figure.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))
    axes.tick_params(length=0, labelsize=style.TICK_SIZE)
    for side in axes.spines.values():
        side.set_visible(False)
    return axes


def write(figure: Figure, left: float, top: float, text: str, **how) -> Text:
    """Text whose upper left corner lies so many inches from the figure's."""
    width, height = figure.get_size_inches()
    how = {"va": "top", "fontsize": style.LABEL_SIZE, **how}
    return figure.text(left / width, 1 - top / height, drawable(text), **how)


def wrapped(text: str, width: float, size: float = style.LABEL_SIZE) -> str:
    """`text` broken into at most three lines of `width` inches; a name may be long."""
    share = 0.66 if size == style.TITLE_SIZE else 0.58  # mean width of a letter by its size; titles are bold
    characters = int(width * 72 / (share * size))
    return textwrap.fill(text, characters, max_lines=3, placeholder=" ...")


def header(figure: Figure, title: str, note: str) -> None:
    """The title and, below it, what was measured; takes `header_height` inches. Without a title nothing is drawn."""
    if not title:
        return
    width = figure.get_size_inches()[0] - 2 * _MARGIN
    title = wrapped(title, width, style.TITLE_SIZE)
    write(figure, _MARGIN, 0.22, title, fontsize=style.TITLE_SIZE, fontweight="bold")
    below = 0.22 + 0.22 * (1 + title.count("\n")) + 0.06
    write(figure, _MARGIN, below, wrapped(note, width), color=style.MUTED)


def header_height(width: float, title: str, note: str) -> float:
    """How many inches the header of a figure of that width takes; without a title, room for what rises above the axes."""
    if not title:
        return 0.1
    inner = width - 2 * _MARGIN
    lines = wrapped(title, inner, style.TITLE_SIZE).count("\n"), wrapped(note, inner).count("\n")
    return 0.75 + 0.22 * lines[0] + 0.18 * lines[1]


def colour_bar(figure: Figure, top: float, limit: float, label: str, *, width: float = 3.0) -> None:
    """A colour bar from -limit to limit in the middle of a figure, `top` inches below its upper edge, and below it its label.

    Takes 0.6 inches; the bar is `width` inches wide.
    """
    axes = add_axes(figure, (figure.get_size_inches()[0] - width) / 2, top, width, 0.13)
    colours = ScalarMappable(Normalize(-limit, limit), diverging())
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    bar.set_ticks(ticks := round_ticks(limit), labels=list(map(tick_text, ticks)))
    axes.tick_params(length=0, labelsize=style.TICK_SIZE, pad=3)
    bar.set_label(drawable(label), fontsize=style.LABEL_SIZE, labelpad=4)


def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the suffix (png, pdf or svg), without a date or the name of a program in it."""
    choose(figure)
    kind = path.suffix[1:]
    write_via(path, lambda part: figure.savefig(part, format=kind, metadata=dict.fromkeys(_METADATA[kind])))
