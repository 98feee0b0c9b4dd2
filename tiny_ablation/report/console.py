"""Where the screen writes to: rich's console without its colours for numbers, markup and emoji, on any width and any pipe."""

import os

from rich.console import Console

_NARROWEST = 40  # columns; in a smaller pane lines wrap by themselves


class _Console(Console):
    """Goes silent when nobody reads any more (`| head -1`): the run goes on, since its files are what it is for."""

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
