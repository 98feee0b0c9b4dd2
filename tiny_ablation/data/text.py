"""When two pieces of text count as the same, and how rows are named in messages."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

SHOWN = 10
PART = "<part>"
"""What stands for some of the bytes of a character; byte-level tokenizers cut characters of most scripts apart."""

_SPACELESS = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "IDEOGRAPHIC",
    "BOPOMOFO",
    "HANGUL",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
    "JAVANESE",
    "BALINESE",
    "TAI ",
    "YI ",
)


def canonical(text: str) -> str:
    r"""The text in NFC with `\n` line ends, so that one corpus has one hash on every machine."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def prompt_key(prompt: str) -> str:
    """What makes a prompt distinct: its canonical text, with every run of white space as one space."""
    return " ".join(canonical(prompt).split())


def holds_word(text: str, word: str) -> bool:
    """Whether `word` stands in `text` as a whole word, in any case and any script."""
    return next(words_at(text.casefold(), word.strip().casefold()), None) is not None


def words_at(text: str, word: str) -> Iterator[tuple[int, int]]:
    """Where `word` stands in `text` as a whole word; in scripts without spaces, wherever it stands."""
    start = text.find(word) if word else -1
    while start >= 0:
        end = start + len(word)
        glued = _glued(word[0], text[start - 1 : start]) or _glued(word[-1], text[end : end + 1])
        if not glued:
            yield start, end
        start = text.find(word, start + 1)


def _glued(edge: str, outside: str) -> bool:
    """Whether the character next to a word belongs to it. Vowel signs are marks, not letters, and belong to their letter."""
    part = outside.isalnum() or outside == "_" or unicodedata.category(outside or " ").startswith("M")
    return part and not (spaceless(edge) or spaceless(outside))


def spaceless(char: str) -> bool:
    """Whether a character is of a script that puts no spaces between words, or puts endings behind them without one."""
    return unicodedata.name(char, "").startswith(_SPACELESS) if char else False


def token_text(tokenizer: Any, token: int) -> str:
    """A token as text, with `PART` for what is a part of a character only."""
    return re.sub("\ufffd+", PART, tokenizer.decode([token]))


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
