"""What is drawn: one specification a family of figures, from which the print and the screen are drawn alike.

`report.figures` draws them: `grid`, `lines`, `points`, `bars`, `upset`. Names and notes are text as it is, never markup.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tiny_ablation.document import Drawn


def symmetric_limit(values: Iterable[float]) -> float:
    """The half-width of a colour scale centred on zero: the largest size, so that nothing lies beyond it."""
    return max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0


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
    """One panel: arrays of shape (rows, columns).

    Attributes:
        name: above it.
        values: NaN where nothing was measured.
        resolved: whether the value is to be coloured in full; else it is pale, with a grey dot.
        hover: the texts that `Grid.hover` shows of a cell.
        marked: cells with an outline.
    """

    name: str
    values: np.ndarray
    resolved: np.ndarray
    hover: Sequence[Sequence[tuple[str, ...]]]
    marked: np.ndarray | None = None

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
    """What the marks of a map mean, drawn below it in print.

    Attributes:
        below: what a value below zero says; empty for nothing.
        above: what a value above zero says.
        coloured: what a full cell is.
        dot: what a grey dot is.
        outlined: what an outlined cell is.
    """

    below: str
    above: str
    coloured: str = "interval excludes 0"
    dot: str = "interval includes 0: unresolved"
    outlined: str = "invariant"


@dataclass(frozen=True)
class Grid(Drawn):
    """Values on a grid of two named axes, one panel or several with the same colours.

    A full cell is a value whose interval excludes 0; a pale one with a dot includes 0; an empty cell was not measured.

    Attributes:
        kind: what it is, for those who do not see it.
        rows: the labels down.
        columns: the labels across.
        axes: what the rows and the columns are.
        colour: the label of the colours, with the unit.
        limit: the colours reach from minus this to this.
        panels: as many side by side as a page has room for.
        places: decimals of numbers in the cells; None shows no numbers.
        strong: rows whose labels are bold.
        square: whether cells are as high as they are wide, as where both axes are the same.
        site: the name of a cell, with `{row}` and `{column}`.
        hover: what a pointer on a cell is told below its name, with `{0}`, `{1}`, ... for the texts of `GridPanel.hover`.
        unsure: what it is told of a grey dot besides.
        key: what the marks mean; None where the note says it.
    """

    kind: str
    rows: Sequence[str]
    columns: Sequence[str]
    axes: tuple[str, str]
    colour: str
    limit: float
    panels: Sequence[GridPanel]
    places: int | None = None
    strong: frozenset[int] = field(default_factory=frozenset)
    square: bool = False
    site: str = "{row}, {column}"
    hover: str = "{0}"
    unsure: str = "unresolved: the interval includes 0"
    key: Key | None = None

    @property
    def has_gaps(self) -> bool:
        """Whether some cell was not measured."""
        return any(np.isnan(panel.values).any() for panel in self.panels)


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: in the legend; lines of one name look alike in all panels.
        x: (n,) ascending.
        y: (n,)
        low: (n,) lower ends of the intervals, NaN where there is none.
        high: (n,)
        unsure: (n,) which points are unresolved, where another interval than the shown one says so; None for none.
        points: (n,) what each point is; empty for its place on the axis across.
        grey: whether it is only there to compare the others with.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unsure: np.ndarray | None = None
    points: Sequence[str] = ()
    grey: bool = False

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

    Attributes:
        kind: what it is, for those who do not see it.
        x_title: the axis across.
        y_title: the axis up, with the unit.
        panels: all with the same axes.
        legend: above the names of the lines; empty for none.
        interval: what a band is; empty where there is none.
        ticks: where the axis across has ticks; None leaves it to the drawing.
        logarithmic: whether the axis across is.
        levels: heights with a line of their own, beside the one at 0.
        span: how far the axis up reaches; None: as far as the lines do.
        signed: whether values are changes, written with their sign.
    """

    kind: str
    x_title: str
    y_title: str
    panels: Sequence[LinePanel]
    legend: str = ""
    interval: str = ""
    ticks: tuple[float, ...] | None = None
    logarithmic: bool = False
    levels: tuple[float, ...] = ()
    span: tuple[float, float] | None = None
    signed: bool = True

    @property
    def names(self) -> list[str]:
        """Every line once, in order."""
        return list(dict.fromkeys(line.name for panel in self.panels for line in panel.lines))


@dataclass(frozen=True)
class Points(Drawn):
    """Named points on a plane: a map of conditions, or one number against another.

    Attributes:
        kind: what it is, for those who do not see it.
        x_title: the axis across, with the unit.
        y_title: the axis up, with the unit.
        x: (n,)
        y: (n,)
        labels: of the points, for a pointer that rests on them.
        shown: whether labels stand beside the filled points, as far as there is room for them.
        diagonal: whether the line x = y is drawn.
        unsure: (n,) which points cannot be told from the diagonal, and are grey and open; None for none.
    """

    kind: str
    x_title: str
    y_title: str
    x: np.ndarray
    y: np.ndarray
    labels: Sequence[str]
    shown: bool = False
    diagonal: bool = False
    unsure: np.ndarray | None = None


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: from `start` to `end`, with a mark at `value` where these are the ends of its interval.

    Attributes:
        label: to its left.
        start: where it begins.
        end: where it ends.
        beside: to its right.
        hover: what a pointer is told, line by line, its name first.
        value: what the interval is of; None for a bar without a mark.
        resolved: whether the interval excludes 0; else the mark is open and grey.
    """

    label: str
    start: float
    end: float
    beside: str
    hover: Sequence[str]
    value: float | None = None
    resolved: bool = True


@dataclass(frozen=True)
class Bars(Drawn):
    """Bars across, one below the other: values with their intervals, or spans of time.

    Attributes:
        kind: what it is, for those who do not see it.
        x_title: the axis across, with the unit.
        bars: the first on top.
        key: what the marks mean, below the axis; empty for none.
    """

    kind: str
    x_title: str
    bars: Sequence[Bar]
    key: str = ""


@dataclass(frozen=True)
class Overlap(Drawn):
    """Which sites several conditions share: an UpSet plot (Lex et al. 2014).

    A column is a group of sites in the sets of exactly the conditions with a filled dot; the bar above is how many.

    Attributes:
        conditions: the rows, with the size of each set.
        groups: for each column which rows are filled, and the names of its sites; the most shared first.
        many: what a site is called.
    """

    conditions: Sequence[tuple[str, int]]
    groups: Sequence[tuple[tuple[int, ...], list[str]]]
    many: str
