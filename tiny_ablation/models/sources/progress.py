"""What a person sees on stderr while a model is fetched and converted; no bars unless it is a terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def notice(message: str) -> None:
    """Print one line, if anybody reads."""
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


@contextlib.contextmanager
def spinner(message: str) -> Iterator[None]:
    """Show that something of unknown length is going on."""
    with _display() as display:
        display.add_task(message, total=None)
        yield


@contextlib.contextmanager
def byte_bar(message: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with a percentage; yields a function that takes the number of bytes that are there."""
    with _display() as display:
        task = display.add_task(message, total=total)
        yield lambda done: display.update(task, completed=min(done, total))


def _display() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    text = TextColumn("{task.description}")
    columns = (SpinnerColumn(), text, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
