"""What people are shown: sections that the terminal, the page and Markdown each render in their own way.

A slice of `ablations/` says here what its runs found; nothing that renders knows one ablation from another.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBERS = re.compile(r"[-+<>\d.,%e\[\] ]*")


class Cell(str):
    """The text of a cell with what a page needs besides: the number to sort by, how it looks, and what it leads to.

    Attributes:
        number: to sort by; None sorts by the text.
        how: a class of the style sheet: `below`, `above`, `unsure`, `wide`.
        link: a file that it leads to, relative to the page; empty for none.
    """

    number: float | None
    how: str
    link: str

    def __new__(cls, text: object, number: float | None = None, how: str = "", link: str = "") -> "Cell":
        """A cell that shows `text`."""
        made = super().__new__(cls, text)
        made.number, made.how, made.link = number, how, link
        return made


@dataclass(frozen=True)
class Table:
    """A table of text; the strings of its rows may be `Cell`s.

    Attributes:
        caption: what it shows and how to read it.
        head: the names of the columns.
        rows: the cells, as they are shown.
        title: above it in a page, where its section holds several things; empty for none.
        id: identifies it in its page, where it can then be sorted; empty for a table that is short enough to read.
        strong: for each row whether it stands out; the others are grey. Empty: all do.
        find: for each row what a search finds it by; empty for no search.
        only: the label of the box that leaves the rows that stand out alone.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    id: str = ""
    strong: Sequence[bool] = ()
    find: Sequence[str] = ()
    only: str = ""

    @property
    def sides(self) -> list[str]:
        """For each column `<` or `>`: words stand to the left, numbers to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.head)
        return [">" if any(column) and all(map(_is_number, column)) else "<" for column in columns]


def _is_number(cell: str) -> bool:
    return getattr(cell, "number", None) is not None or bool(_NUMBERS.fullmatch(cell))


@dataclass(frozen=True)
class Drawn:
    """The numbers of a figure, as both of its renderings draw them: one of `document.figures`.

    Attributes:
        name: identifies the figure in its page.
        title: what was done, to what, on what.
        note: what was measured and how to read it: examples, and what the intervals are.
    """

    name: str
    title: str
    note: str


@dataclass(frozen=True)
class Figure:
    """A figure, drawn for print and for the screen from one specification.

    Attributes:
        name: the stem of its files.
        heading: above it in a page.
        caption: below it in a page: how to read it.
        drawn: what is drawn.
    """

    name: str
    heading: str
    caption: str
    drawn: Drawn


@dataclass(frozen=True)
class Section:
    """One thing that a run or a sweep has to say.

    Attributes:
        title: its heading.
        text: its paragraphs.
        tables: below the text.
        headline: the answer of the run in one sentence, in place of the one about its strongest site; empty where the section
            does not answer the run's question.
        firm: whether the headline is a finding that the evidence carries; else it is set smaller.
        code: text that is shown letter by letter, each with the line behind which it is folded away, or with none.
        figures: below the code.
        items: short sentences, as a list.
        pairs: names with their values.
        link: the file that the heading leads to, relative to the page; empty for none.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    headline: str = ""
    firm: bool = True
    code: Sequence[tuple[str, str]] = ()
    figures: Sequence[Figure] = ()
    items: Sequence[str] = ()
    pairs: Sequence[tuple[str, str]] = ()
    link: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show below the heading."""
        return not (self.text or self.tables or self.code or self.figures or self.items or self.pairs or self.link)


@dataclass(frozen=True)
class Page:
    """A run or a sweep on one page.

    Attributes:
        title: of the window.
        eyebrow: one small line above all: what this is a page of.
        answers: the first screen: the headline of each with its paragraphs, and its items in small print.
        warnings: what a reader of the numbers must know.
        facts: a few numbers: name, value, and what stands below it in small print.
        notes: how to read the numbers.
        sections: everything else; empty ones are left out.
        footer: the last line.
    """

    title: str
    eyebrow: str
    answers: Sequence[Section]
    warnings: Sequence[str]
    facts: Sequence[tuple[str, str, str]]
    notes: Sequence[str]
    sections: Sequence[Section]
    footer: str
