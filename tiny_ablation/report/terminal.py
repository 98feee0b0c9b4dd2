"""One calm screen per run.

The result (header, baseline, table, files, next command) goes to stdout; progress bars and warnings go to
stderr, so that a pipe gets the result alone. Nothing but plain text leaves when the stream is no terminal;
`NO_COLOR` and `COLUMNS` are obeyed; colour repeats what the text already says. Text from configs and files is
shown as it is: control characters and rich's markup in it have no effect.
"""

import math
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tiny_ablation import formats
from tiny_ablation.data.text import tame
from tiny_ablation.document import Section
from tiny_ablation.report.console import Stage, console, progress_bar
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.store.runlog import log
from tiny_ablation.store.schema import INDEX

_SHORT = 13  # characters of a cell that is not broken, such as a number


class Screen:
    """What a run shows: results on `out` (stdout), progress and warnings on `err` (stderr).

    A quiet one, for the jobs of a sweep, shows nothing but one line at the end.
    """

    def __init__(self, *, quiet: bool = False, out: Console | None = None, err: Console | None = None) -> None:
        self._out = out or console(stderr=False)
        self._err = err or console(stderr=True)
        self._quiet = quiet

    def start(self, what: Mapping[str, str]) -> None:
        """Say what runs: a line for each of model, dataset, ablation, device."""
        self._print()
        self._pairs(what.items())
        self._print()

    @contextmanager
    def progress(self, stage: str, total: int) -> Iterator[Stage]:
        """A bar with rate and time left while the block runs; it leaves no trace. Only on a terminal."""
        if self._quiet or not self._err.is_terminal or self._err.is_dumb_terminal:
            yield Stage()
            return
        with progress_bar(self._err) as bar:
            yield Stage(bar, bar.add_task(self._clean(stage), total=total))

    def baseline(self, summary: Mapping[str, Any]) -> None:
        """The un-intervened run, from the content of its `metrics/summary.json`."""
        counts = f"{_count(summary['n_examples'], 'example')} in {_count(summary['n_groups'], 'group')}"
        self._heading("Baseline", f"{summary['baseline_of']}; {counts}")
        rows = []
        for name in ("accuracy", summary["primary"]):
            if found := summary["baseline"].get(name):
                number, bounds = formats.plain(found["mean"], 3), formats.bounds(found["ci_low"], found["ci_high"], 3)
                unit = "share of right answers" if name == "accuracy" else vocabulary.metric_vocabulary(name).unit
                rows.append([self._text(name), self._text(number, "bold"), self._text(bounds), self._text(unit, "dim")])
        self._lines(rows, "<><<")
        self._print()

    def table(self, summary: Mapping[str, Any], title: str = "Strongest sites") -> None:
        """The strongest sites of a run's `metrics/summary.json`, and how to read them."""
        rows, metric, resolution = summary["top"], summary["primary"], summary["resolution"]
        percent = formats.percent(summary["confidence"])
        self._heading(title, f"by change in {metric}, {vocabulary.metric_vocabulary(metric).unit}")
        if not rows:
            self._print(self._text("  none"))
        else:
            rows = [effects.with_pair(row) for row in rows]
            index = [name for name in rows[0] if name in {*INDEX, "direction", "pair"}]
            places = formats.decimals(formats.number(row["delta"]) for row in rows)
            head = [*index, "change", "shrunken", f"{percent} interval", "q", "value"]
            cells = [[self._text(name.replace("_", " "), "dim") for name in head]]
            cells += [self._site_row(row, index, places, resolution) for row in rows]
            self._lines(cells, ">" * len(head) + "<")
        tests = f"false discovery rate over {summary['family_size']} tests; null: {summary['null']}"
        for line in (
            f"change: {metric} with the site intervened on, minus the baseline; mean over examples",
            "shrunken: the change to expect on new examples; the interval allows for these sites' being chosen as the "
            "strongest",
            f"q: {resolution or tests}",
        ):
            self._paragraph("  ", line, "dim")
        if any(formats.holds_zero(*effects.interval_of_chosen(row)) for row in rows):
            self._paragraph("  ", f"unresolved: the {percent} interval includes 0; not told apart from no effect", "dim")
        self._print()

    def _site_row(self, row: Mapping[str, Any], index: Sequence[str], places: int, resolution: str | None) -> list[Text]:
        delta, (low, high) = formats.number(row["delta"]), effects.interval_of_chosen(row)
        unsure = formats.holds_zero(low, high)
        cells = [f"{row[name]:.2g}" if name == "scale" and row[name] is not None else str(row[name]) for name in index]
        cells += [formats.signed(delta, places), formats.signed(row.get("shrunken"), places)]
        cells.append(formats.interval(low, high, places))
        cells.append("-" if resolution else formats.probability(row["q_value"]))
        cells.append(formats.plain(row["value"], places))
        how = "dim" if unsure else ""
        colour = how or ("red" if delta < 0 else "blue")
        texts = [self._text(cell, colour if i == len(index) else how) for i, cell in enumerate(cells)]
        return [*texts, self._text("unresolved" if unsure else "", how)]

    def section(self, section: Section) -> None:
        """A section: its answer, its paragraphs, then its tables; nothing where it has none of these."""
        if not (section.headline or section.text or section.tables):
            return
        self._heading(section.title, "")
        if section.headline:
            self._paragraph("  ", section.headline, "bold" if section.firm else "")
        for text in section.text:
            self._paragraph("  ", text, "")
        self._print()
        for table in section.tables:
            self.cells(table.caption, [table.head, *table.rows])

    def cells(self, caption: str, rows: Sequence[Sequence[str]]) -> None:
        """A small table, the names of its columns first, and below it how to read it."""
        texts = [[self._text(cell, "dim" if i == 0 else "") for cell in row] for i, row in enumerate(rows)]
        self._lines(texts, ">" * len(rows[0]))
        self._paragraph("  ", caption, "dim")
        self._print()

    def warn(self, text: str) -> None:
        """Something that a reader of the numbers must know; goes to stderr, and to the log of the run."""
        log.warning("%s", text)
        if not self._quiet:
            people = self._err.is_terminal  # who gets whole words and room; a log gets one line
            shown = self._text("warning: ", "yellow bold") + self._text(text)
            self._err.print(shown, soft_wrap=not people, end="\n\n" if people else "\n")

    def files(self, run_dir: Path, names: Iterable[str]) -> None:
        """Where the results are: the directory, and in it the files worth naming."""
        self._heading("Files", "")
        self._line(f"  {run_dir}")
        self._pairs((f"  {name}", vocabulary.FILES.get(name, "")) for name in names)
        self._print()

    def cell(self, number: int, total: int, label: str, seed: int, status: str, seconds: float) -> None:
        """One job of a sweep, at its end; also where the screen is quiet, and from any process.

        `number` counts from 0, `label` is the condition, and `status` is `ok`, `failed`, `done before`, or `helped` with a run
        that another worker ended.
        """
        took = "" if status == "done before" else f"{seconds:6.0f} s"
        how = {"ok": "green", "failed": "red bold"}.get(status, "dim")
        place = f"  {number + 1:>{len(str(total))}}/{total}  {self._clean(label)}, seed {seed}  "
        self._out.print(Text(place) + Text(status, style=how) + Text(took, style="dim"), soft_wrap=True)

    def grid(self, title: str, note: str, rows: Sequence[Sequence[str]]) -> None:
        """A table of words with a header, the first column to the left; where it is too wide, that gets lines of its own."""
        self._print()
        self._heading(title, note)
        head, *body = ([self._text(cell) for cell in row] for row in rows)
        for cell in head:
            cell.stylize("dim")
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        if sum(widths) + 2 * len(widths) <= self._out.width:
            self._lines([head, *body], "<" + ">" * (len(head) - 1))
        else:
            for name, *cells in (head, *body):
                self._line_of(Text("  ") + name)
                line = Text("  ")
                for cell, width in zip(cells, widths[1:], strict=True):
                    line += Text("  " + " " * (width - len(cell))) + cell
                self._line_of(line)
        self._print()

    def note(self, text: str) -> None:
        """A paragraph of the result."""
        self._paragraph("  ", text, "")
        self._print()

    def next_command(self, command: str, directory: Path, *flags: str) -> None:
        """The next sensible command, which is about a directory; a line that can be copied."""
        here = Path.cwd()
        shown = directory.relative_to(here) if directory.is_relative_to(here) else directory
        self._line("Next", "bold")
        self._line(f"  {shlex.join(['tiny-ablate', command, str(shown), *flags])}")

    def footer(self, text: str) -> None:
        """The last line."""
        self._print()
        self._line(text, "dim")

    def _heading(self, title: str, note: str) -> None:
        self._print(self._text(title, "bold") + self._text(f"   {note}" if note else "", "dim"))

    def _pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        """A line for each name and its description."""
        pairs = [*pairs]
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self._paragraph(f"  {self._clean(name):<{width}}  ", value, "")

    def _paragraph(self, before: str, text: str, how: str) -> None:
        """`text` after `before`, broken at the width of the terminal and indented under itself."""
        width = max(20, self._out.width - len(before))
        lines = textwrap.wrap(self._clean(text), width, break_on_hyphens=False)
        for i, line in enumerate(lines or [""]):
            lead = Text(" " * len(before) if i else before, style="dim")
            self._line_of(lead + Text(line, style=how))

    def _lines(self, rows: Sequence[Sequence[Text]], sides: str) -> None:
        """Rows of cells in columns two spaces apart, each aligned to its side (`<` or `>`).

        A table too wide for a terminal gets one space between columns, and if that is not enough, long cells are broken.
        """
        columns = [*zip_longest(*rows, fillvalue=Text())]
        widths = [max(map(len, column)) for column in columns]
        room = self._out.width if self._out.is_terminal else math.inf
        gap = "  " if sum(widths) + 2 * len(widths) <= room else " "
        if sum(widths) + len(widths) > room:
            broken = Table.grid(padding=(0, 0, 0, 1))
            for width, side in zip(widths, sides, strict=False):
                long = width > _SHORT
                broken.add_column(justify="left" if long or side == "<" else "right", no_wrap=not long, overflow="fold")
            for row in rows:
                broken.add_row(*row)
            self._print(Padding(broken, (0, 0, 0, 2)))
            return
        for row in rows:
            line = Text()
            for cell, width, side in zip(row, widths, sides, strict=False):
                space = " " * (width - len(cell))
                line += Text(gap) + (Text(space) + cell if side == ">" else cell + Text(space))
            self._line_of(line)

    def _line_of(self, line: Text) -> None:
        line.rstrip()
        self._print(line, soft_wrap=True)

    def _line(self, text: str, how: str = "") -> None:
        """A line that is never broken, so that a path or a command can be copied."""
        self._print(self._text(text, how), soft_wrap=True)

    def _print(self, what: Any = "", **how: Any) -> None:
        if not self._quiet:
            self._out.print(what, **how)

    def _text(self, text: str, how: str = "") -> Text:
        return Text(self._clean(text), style=how)

    def _clean(self, text: str) -> str:
        """`text` without control characters, in what the terminal's encoding can show."""
        shown = tame(str(text))
        encoding = self._out.encoding or "utf-8"
        return shown.encode(encoding, "replace").decode(encoding, "replace")


def _count(n: int, one: str) -> str:
    return f"{n} {one}" if n == 1 else f"{n} {one}s"
