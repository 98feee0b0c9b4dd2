"""When two pieces of text count as the same, and how rows are named in messages."""

import re
import unicodedata
from collections.abc import Sequence

SHOWN = 10


def canonical(text: str) -> str:
    r"""The text in NFC with `\n` line ends, so that one corpus has one hash on every machine."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def prompt_key(prompt: str) -> str:
    """What makes a prompt distinct: its canonical text, with every run of white space as one space."""
    return " ".join(canonical(prompt).split())


def holds_word(text: str, word: str) -> bool:
    """Whether `word` stands in `text` as a whole word, in any case."""
    word, text = word.strip().casefold(), text.casefold()
    # The substring test is what keeps a hundred thousand rows cheap: almost all end here, without a regular
    # expression.
    return bool(word) and word in text and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def listing(rows: Sequence[str], total: int | None = None, separator: str = ", ") -> str:
    """The first ten rows and how many there are, for a message."""
    total = len(rows) if total is None else total
    shown = separator.join(rows[:SHOWN])
    return shown if total <= SHOWN else f"{shown}{separator}... ({total} in all)"


def printable(text: str) -> str:
    """The text in one line that does nothing to a terminal: control characters and the like become question marks."""
    return tame(" ".join(text.split()))


def tame(line: str) -> str:
    """The line with a question mark for every control character and the like, which could do something to a terminal."""
    return "".join(char if char.isprintable() else "?" for char in line)


def natural_key(text: str) -> tuple[list[str | int], str]:
    """Sorts `row-9` before `row-10`; texts that differ only in leading zeros keep one order."""
    parts = re.split(r"([0-9]+)", text)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], text
