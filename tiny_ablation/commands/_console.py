"""What sub-commands share on the way in and out: arguments, text, JSON."""

import json
import shutil
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tiny_ablation.data.text import tame
from tiny_ablation.errors import ConfigError
from tiny_ablation.store.files import write_text


class _Parser(ArgumentParser):
    """Leaves the telling of errors to `cli`."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removesuffix(', KEY=VALUE')}; see `{self.prog} --help`")


def parser(name: str, doc: str | None) -> ArgumentParser:
    """An argument parser whose help is the module's docstring."""
    return _Parser(prog=f"tiny-ablate {name}", description=doc, formatter_class=RawDescriptionHelpFormatter)


def add_overrides(to: ArgumentParser) -> None:
    """The overrides of a run (`KEY=VALUE`), which may stand before and after flags."""
    to.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for a run: model=gpt2 dataset=ioi seed=1 ...")


def say(*lines: str) -> None:
    """Print lines on stdout; what a stranger's file put into them does nothing to the terminal."""
    for line in lines:
        print(tame(line))  # noqa: T201


def say_page(text: str) -> None:
    """Print a text of several lines."""
    say(*text.rstrip("\n").split("\n"))


def add_out(to: ArgumentParser) -> None:
    """Where `write_or_say` puts a page."""
    to.add_argument("--out", type=Path, help="the page to write; default: print it")


def write_or_say(page: str, out: Path | None) -> None:
    """Write a page where `--out` says, or print it."""
    if out:
        write_text(out, page)
    else:
        say_page(page)


def say_json(content: Any) -> None:
    """Print one JSON value, keys in the given order."""
    say_page(json.dumps(content, ensure_ascii=False, indent=2))


def table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows of words as aligned lines: the first column to the left, the others to the right.

    Where that is too wide for the terminal, the first column gets lines of its own.
    """
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    apart = sys.stdout.isatty() and sum(widths) + 2 * len(widths) > shutil.get_terminal_size().columns
    for first, *rest in cells:
        numbers = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        if apart:
            yield f"  {first}"
            yield "  ".join(["  ", *numbers])
        else:
            yield "  ".join([f"  {first:<{widths[0]}}", *numbers])
