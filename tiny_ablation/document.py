"""What people are shown: sections that the terminal, the page and Markdown each render in their own way.

A slice of `ablations/` says here what its runs found; nothing that renders knows one ablation from another.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A small table of text.

    Attributes:
        caption: what it shows and how to read it.
        head: the names of the columns; the first names the row.
        rows: the cells, as they are shown.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One thing that a run has to say.

    Attributes:
        title: its heading.
        text: its paragraphs.
        tables: below the text.
        headline: the answer of the run in one sentence, in place of the one about its strongest site; empty where the section
            does not answer the run's question.
        firm: whether the headline is a finding that the run's evidence carries; else it is set smaller.
        figure: the name of the figure of the report that belongs to it; empty for none.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    headline: str = ""
    figure: str = ""
    firm: bool = True
