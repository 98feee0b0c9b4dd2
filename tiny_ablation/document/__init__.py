"""What people are shown: sections that the terminal, the page and Markdown each render in their own way.

A slice of `ablations/` says here what its runs found; nothing that renders knows one ablation from another.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBERS = re.compile(r"[-+<>\d.,%e\[\] ]*")


class Cell(str):
    """The text of a cell with what a page needs besides: the number to sort by, how it looks, and what it leads to."""

    number: float | None  # to sort by; None sorts by the text
    how: str  # a class of the style sheet: `below`, `above`, `unsure`, `wide`
    link: str  # a file that it leads to, relative to the page; empty for none

    def __new__(cls, text: object, number: float | None = None, how: str = "", link: str = "") -> "Cell":
        """A cell that shows `text`."""
        made = super().__new__(cls, text)
        made.number, made.how, made.link = number, how, link
        return made


@dataclass(frozen=True)
class Table:
    """A table of text; the strings of its rows may be `Cell`s."""

    caption: str  # what it shows and how to read it
    head: Sequence[str]  # the names of the columns
    rows: Sequence[Sequence[str]]  # the cells, as they are shown
    title: str = ""  # above it in a page, where its section holds several things; empty for none
    id: str = ""  # identifies it in its page, where it can then be sorted; empty for a table that is short enough to read
    strong: Sequence[bool] = ()  # for each row whether it stands out, the others being grey; empty: all stand out
    find: Sequence[str] = ()  # for each row the text that a search looks in; empty: the table has no search
    only: str = ""  # the label of the box that hides the rows that do not stand out

    @property
    def sides(self) -> list[str]:
        """For each column `<` or `>`: words stand to the left, numbers to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.head)
        return [">" if any(column) and all(map(_is_number, column)) else "<" for column in columns]


def _is_number(cell: str) -> bool:
    return getattr(cell, "number", None) is not None or bool(_NUMBERS.fullmatch(cell))


@dataclass(frozen=True)
class Drawn:
    """The numbers of a figure, as both of its renderings draw them: one of `document.figures`."""

    name: str  # identifies the figure in its page
    title: str  # what was done, to what, on what
    note: str  # what was measured and how to read it: examples, and what the intervals are


@dataclass(frozen=True)
class Figure:
    """A figure, drawn for print and for the screen from one specification."""

    name: str  # the stem of its files
    heading: str  # above it in a page
    caption: str  # below it in a page: how to read the figure
    drawn: Drawn  # its numbers


@dataclass(frozen=True)
class Section:
    """One thing that a run or a sweep has to say."""

    title: str  # its heading
    text: Sequence[str] = ()  # its paragraphs
    tables: Sequence[Table] = ()  # below the text
    # the answer of the run in one sentence, in place of the one about its strongest site; empty where the section does not
    # answer the run's question
    headline: str = ""
    firm: bool = True  # whether the headline is a finding that the evidence carries; else it is set smaller
    # text that is shown letter by letter, each with the line behind which it is folded away, or with none
    code: Sequence[tuple[str, str]] = ()
    figures: Sequence[Figure] = ()  # below the code
    items: Sequence[str] = ()  # short sentences, as a list
    pairs: Sequence[tuple[str, str]] = ()  # names with their values
    link: str = ""  # the file that the heading leads to, relative to the page; empty for none

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show below the heading."""
        return not (self.text or self.tables or self.code or self.figures or self.items or self.pairs or self.link)


@dataclass(frozen=True)
class Page:
    """A run or a sweep on one page."""

    title: str  # of the window
    eyebrow: str  # one small line above all: what this is a page of
    answers: Sequence[Section]  # the first screen: the headline of each with its paragraphs, and its items in small print
    warnings: Sequence[str]  # what a reader of the numbers must know
    facts: Sequence[tuple[str, str, str]]  # a few numbers: name, value, and a line in small print below
    notes: Sequence[str]  # how to read the numbers
    sections: Sequence[Section]  # everything else; empty ones are left out
    footer: str  # the last line
