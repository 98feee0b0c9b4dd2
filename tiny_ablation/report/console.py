"""Where the screen writes to: rich's console without its colours for numbers, markup and emoji, on any width and any pipe."""

import os

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

_NARROWEST = 40  # columns; in a smaller pane lines wrap by themselves


class _Console(Console):
    """A console that goes silent when its reader is gone (`| head -1`), while the run, whose result is its files, goes on."""

    def on_broken_pipe(self) -> None:
        """Where rich would end the process."""
        stream = self.file.fileno()
        self.quiet = True
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream)  # also for what Python itself flushes at its end
        os.close(devnull)


def console(stderr: bool) -> Console:
    """A console on stdout or stderr."""
    made = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    made.width = max(made.width, _NARROWEST)
    return made


class Stage:
    """The progress of one stage; `advance` is all there is to it."""

    def __init__(self, bar: Progress | None = None, task: TaskID | None = None) -> None:
        self._bar, self._task = bar, task

    def advance(self, n: int = 1) -> None:
        """Say that `n` more steps are done."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, n)


def progress_bar(console: Console) -> Progress:
    """A bar that leaves no trace."""
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan"),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        _Rate(),
        _TimeLeft(compact=True),
    )
    return Progress(*columns, console=console, transient=True, expand=True)


class _Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="dim", justify="right")


class _TimeLeft(TimeRemainingColumn):
    """Time left, with the word for it."""

    def render(self, task: Task) -> Text:
        return super().render(task) + Text(" left", style="dim")
