"""Fonts for characters that matplotlib's own lacks, of which names, tokens and prompts in other scripts are made.

Looked for in the package that the extra `cjk` brings, then among the installed fonts, by name; so that figures without such
characters are the same everywhere, and those with them depend on what is installed. Costs nothing before the first such
character.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from tiny_ablation.models.sources.progress import notice
from tiny_ablation.report.figures import style

_EXTRA = "cvttf_NotoSansCJK_Regular"
_BOX = "\N{WHITE SQUARE}"


def drawable(text: str) -> str:
    """`text` with a box for each character that no font here has, since names come from users' files."""
    shown = []
    for c in text:
        if c != "\n" and not _has_own(c):
            if not c.isprintable():
                c = " "
            elif family_of(c) is None:
                _say_boxes()
                c = _BOX
        shown.append(c)
    return "".join(shown)


def choose(figure: Figure) -> None:
    """Give each text of a figure the fonts that it needs beside its own."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        names = dict.fromkeys(family_of(c) for c in text.get_text() if not _has_own(c) and c.isprintable())
        more = [name for name in names if name is not None]
        if more:
            text.set_fontfamily([*text.get_fontfamily(), *more])


@cache
def family_of(character: str) -> str | None:
    """The first installed font that has the character; None where none has."""
    return next((name for name, file in _candidates() if ord(character) in _characters(file)), None)


@cache
def _say_boxes() -> None:
    """Say once what the boxes are."""
    notice(
        "Warning: no installed font has all characters of the figures; those that are missing are drawn as boxes. Install a "
        "font of their script; pip install 'tiny-ablation[cjk]' brings one for Chinese, Japanese and Korean."
    )


@cache
def _candidates() -> list[tuple[str, str]]:
    """(family, file) of regular fonts in the order in which they are tried."""
    found, mine = find_spec(_EXTRA), []
    for place in (found.submodule_search_locations or ()) if found else ():
        mine += map(str, sorted(Path(place).glob("*.[ot]tf")))
    for file in mine:
        font_manager.fontManager.addfont(file)
    regular = [
        font
        for font in font_manager.fontManager.ttflist
        if font.style == "normal"
        and str(font.weight) in ("400", "normal", "regular")
        and not font.name.startswith("Last Resort")  # boxes for everything
    ]
    regular.sort(key=lambda font: (font.fname not in mine, font.name, font.fname))
    return [(font.name, font.fname) for font in regular]


def _has_own(character: str) -> bool:
    return ord(character) in _characters(font_manager.findfont(style.FONT))


@cache
def _characters(file: str) -> frozenset[int]:
    try:
        return frozenset(font_manager.get_font(file).get_charmap())
    except (OSError, RuntimeError, ValueError):  # an installed font that cannot be read
        return frozenset()
