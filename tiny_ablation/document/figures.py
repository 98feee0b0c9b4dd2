"""What is drawn: one specification a family of figures, from which the print and the screen are drawn alike.

`report.figures` draws them: `grid`, `lines`, `points`, `bars`, `upset`. Names and notes are text as it is, never markup.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tiny_ablation.document import Drawn
from tiny_ablation.formats import largest


def symmetric_limit(values: Iterable[float]) -> float:
    """The half-width of a colour scale centred on zero: the largest size, so that nothing lies beyond it."""
    return largest(values) or 1.0


MOST_TICKS = 12  # along an axis; the labels of more run into one another


def round_ticks(limit: float) -> list[float]:
    """Five or seven round numbers from -limit to limit, 0 in the middle."""
    size = 10.0 ** math.floor(math.log10(limit))
    step = next(part * size for part in (0.25, 0.5, 1.0, 2.0, 2.5) if limit / (part * size) < 4)
    n = math.floor(limit / step * (1 + 1e-9))
    return [float(f"{i * step:.6g}") for i in range(-n, n + 1)]


def tick_text(tick: float) -> str:
    """A tick with its sign."""
    return f"{tick:+g}" if tick else "0"


@dataclass(frozen=True)
class GridPanel:
    """One panel: arrays of shape (rows, columns)."""

    name: str  # above it
    values: np.ndarray  # NaN where nothing was measured
    resolved: np.ndarray  # whether the value is to be coloured in full; else it is pale, with a grey dot
    hover: Sequence[Sequence[tuple[str, ...]]]  # the texts that `Grid.hover` shows of a cell
    marked: np.ndarray | None = None  # cells with an outline

    def unsure(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the grey dots."""
        rows, columns = np.nonzero(~self.resolved & ~np.isnan(self.values))
        return rows, columns

    def outlined(self) -> list[tuple[int, int]]:
        """Row and column of each outline."""
        rows, columns = np.nonzero(self.marked if self.marked is not None else np.zeros_like(self.resolved))
        return list(zip(rows.tolist(), columns.tolist(), strict=True))


@dataclass(frozen=True)
class Key:
    """What the marks of a map mean, drawn below it in print."""

    below: str  # what a value below zero says; empty for nothing
    above: str  # what a value above zero says
    coloured: str = "interval excludes 0"  # what a full cell is
    dot: str = "interval includes 0: unresolved"  # what a grey dot is
    outlined: str = "invariant"  # what an outlined cell is


@dataclass(frozen=True)
class Grid(Drawn):
    """Values on a grid of two named axes, one panel or several with the same colours.

    A full cell is a value whose interval excludes 0; a pale one with a dot includes 0; an empty cell was not measured.
    """

    kind: str  # of figure, for screen readers
    rows: Sequence[str]  # the labels down
    columns: Sequence[str]  # the labels across
    axes: tuple[str, str]  # what the rows and the columns are
    colour: str  # the label of the colours, with the unit
    limit: float  # the colours reach from minus this to this
    panels: Sequence[GridPanel]  # as many side by side as a page has room for
    places: int | None = None  # decimals of numbers in the cells; None shows no numbers
    strong: frozenset[int] = field(default_factory=frozenset)  # rows whose labels are bold
    square: bool = False  # whether cells are as high as they are wide, as where both axes are the same
    site: str = "{row}, {column}"  # the name of a cell, with `{row}` and `{column}`
    # the hover text of a cell below its name, with `{0}`, `{1}`, ... for the texts of `GridPanel.hover`
    hover: str = "{0}"
    unsure: str = "unresolved: the interval includes 0"  # a further line in the hover text of a grey dot
    key: Key | None = None  # what the marks mean; None where the note says it

    @property
    def has_gaps(self) -> bool:
        """Whether some cell was not measured."""
        return any(np.isnan(panel.values).any() for panel in self.panels)


@dataclass(frozen=True)
class Line:
    """One line."""

    name: str  # in the legend; lines of one name look alike in all panels
    x: np.ndarray  # (n,) ascending
    y: np.ndarray  # (n,)
    low: np.ndarray  # (n,) lower ends of the intervals, NaN where there is none
    high: np.ndarray  # (n,)
    # (n,) which points are unresolved, where another interval than the shown one says so; None for none
    unsure: np.ndarray | None = None
    points: Sequence[str] = ()  # (n,) what each point is; empty for its place on the axis across
    grey: bool = False  # whether it is drawn only for comparison

    @property
    def resolved(self) -> np.ndarray:
        """(n,) whether the interval excludes 0; a point without an interval is drawn as it is."""
        holds_zero = (self.low <= 0) & (self.high >= 0)
        return ~(holds_zero if self.unsure is None else holds_zero | self.unsure)


@dataclass(frozen=True)
class LinePanel:
    """Lines that share axes."""

    name: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Lines(Drawn):
    """Values along an axis as lines with bands, in one panel or several.

    A band is an interval; a filled mark is a value whose interval excludes 0 (or that has none), an open one includes 0.
    """

    kind: str  # of figure, for screen readers
    x_title: str  # the axis across
    y_title: str  # the axis up, with the unit
    panels: Sequence[LinePanel]  # all with the same axes
    legend: str = ""  # above the names of the lines; empty for none
    interval: str = ""  # what a band is; empty where there is none
    ticks: tuple[float, ...] | None = None  # where the axis across has ticks; None leaves it to the drawing
    logarithmic: bool = False  # whether the axis across is
    levels: tuple[float, ...] = ()  # heights with a line of their own, beside the one at 0
    span: tuple[float, float] | None = None  # how far the axis up reaches; None: as far as the lines do
    signed: bool = True  # whether values are changes, written with their sign

    @property
    def names(self) -> list[str]:
        """Every line once, in order."""
        return list(dict.fromkeys(line.name for panel in self.panels for line in panel.lines))

    @property
    def labelled(self) -> list[float] | None:
        """Those of the ticks that are drawn: of more than `MOST_TICKS` every few, from the first on."""
        return None if self.ticks is None else list(self.ticks[:: -(-len(self.ticks) // MOST_TICKS)])


@dataclass(frozen=True)
class Points(Drawn):
    """Named points on a plane: a map of conditions, or one number against another."""

    kind: str  # of figure, for screen readers
    x_title: str  # the axis across, with the unit
    y_title: str  # the axis up, with the unit
    x: np.ndarray  # (n,)
    y: np.ndarray  # (n,)
    labels: Sequence[str]  # of the points, for a pointer that rests on them
    shown: bool = False  # whether labels stand beside the filled points, as far as there is room for them
    diagonal: bool = False  # whether the line x = y is drawn
    unsure: np.ndarray | None = None  # (n,) which points do not differ from the diagonal, drawn grey and open; None: none


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: from `start` to `end`, with a mark at `value` where these are the ends of its interval."""

    label: str  # to its left
    start: float  # where it begins
    end: float  # where it ends
    beside: str  # to its right
    hover: Sequence[str]  # the lines of the hover text, its name first
    value: float | None = None  # what the interval is of; None for a bar without a mark
    resolved: bool = True  # whether the interval excludes 0; else the mark is open and grey


@dataclass(frozen=True)
class Bars(Drawn):
    """Bars across, one below the other: values with their intervals, or spans of time."""

    kind: str  # of figure, for screen readers
    x_title: str  # the axis across, with the unit
    bars: Sequence[Bar]  # the first on top
    key: str = ""  # what the marks mean, below the axis; empty for none


@dataclass(frozen=True)
class Overlap(Drawn):
    """Which sites several conditions share: an UpSet plot (Lex et al. 2014).

    A column is a group of sites in the sets of exactly the conditions with a filled dot; the bar above is how many.
    """

    conditions: Sequence[tuple[str, int]]  # the rows, with the size of each set
    # for each column which rows are filled, and the names of its sites; the most shared first
    groups: Sequence[tuple[tuple[int, ...], list[str]]]
    many: str  # what a site is called
