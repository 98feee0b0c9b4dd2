"""One kind of figure: what it reads, and its two renderings; every figure is drawn from here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from matplotlib.figure import Figure

from tiny_ablation.report.figures import canvas, interactive
from tiny_ablation.report.figures.interactive import Interactive


class Data(Protocol):
    """The numbers of a figure as both renderings draw them."""

    @property
    def title(self) -> str:
        """What was done, to what, on what."""
        ...


Source = TypeVar("Source", contravariant=True)
Drawn = TypeVar("Drawn", bound=Data)


@dataclass(frozen=True)
class Drawing(Generic[Source, Drawn]):
    """One kind of figure.

    Attributes:
        name: the stem of its files.
        heading: above it in a page.
        caption: below it in a page: how to read it.
        collect: reads its numbers off its source.
        static: draws them for print.
        interactive: draws them for a page.
        legend: below the title of the page that holds the figure alone: what was measured, and how to read it.
        signed: whether its colours say which way an effect goes.
    """

    name: str
    heading: str
    caption: str
    collect: Callable[[Source], Drawn]
    static: Callable[[Drawn], Figure]
    interactive: Callable[[Drawn], Interactive]
    legend: Callable[[Drawn], str]
    signed: bool = False

    def write(self, source: Source, directory: Path) -> list[Path]:
        """Draw it into `directory` as a page (plotly.js is put beside it) and as PNG; equal sources give equal bytes.

        Raises:
            ResultsError: the source has nothing to draw, or a file cannot be written.
        """
        data = self.collect(source)
        page, png = directory / f"{self.name}.html", directory / f"{self.name}.png"
        with canvas.settings():
            canvas.save(self.static(data), png)
        interactive.save(self.interactive(data), data.title, self.legend(data), page)
        return [page, png]

    def page(self, source: Source) -> Interactive:
        """The interactive figure, to be put into a page.

        Raises:
            ResultsError: the source has nothing to draw.
        """
        return self.interactive(self.collect(source))


AnyDrawing = Drawing[Any, Any]
