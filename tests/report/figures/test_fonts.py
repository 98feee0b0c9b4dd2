"""Characters of other scripts are drawn where an installed font has them, and as boxes, with a warning, where none has."""

from pathlib import Path

import pytest
from matplotlib import font_manager

from tiny_ablation.report.figures import canvas, fonts

CACHED = (fonts.family_of, fonts._say_boxes, fonts._candidates)


@pytest.fixture(autouse=True)
def own_font_only(monkeypatch: pytest.MonkeyPatch):
    """As on a machine that has matplotlib's fonts alone."""
    theirs = [font for font in font_manager.fontManager.ttflist if "matplotlib" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", theirs)
    monkeypatch.setattr(fonts, "_EXTRA", "no_such_package")
    for each in CACHED:
        each.cache_clear()
    yield
    for each in CACHED:
        each.cache_clear()


def make_font(path: Path, characters: str) -> None:
    """A font whose every character is a black square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    names = [".notdef", *(f"u{ord(c):X}" for c in characters)]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, characters), names[1:], strict=True)))
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def drawn(path: Path, text: str) -> bytes:
    with canvas.settings():
        figure = canvas.blank(2, 1)
        canvas.write(figure, 0.3, 0.3, text)
        canvas.save(figure, path)
    return path.read_bytes()


def test_without_a_font_there_are_boxes_and_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fonts.drawable("首都 é\n") == "□□ é\n"
    assert fonts.drawable("東京") == "□□"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'tiny-ablation[cjk]'" in said
    assert drawn(tmp_path / "a.png", "首都") == drawn(tmp_path / "b.png", "東京")


@pytest.mark.filterwarnings("error")
def test_with_a_font_they_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = drawn(tmp_path / "boxes.png", "首都 é")
    capsys.readouterr()
    for each in CACHED:
        each.cache_clear()
    make_font(tmp_path / "squares.ttf", "首都")
    font_manager.fontManager.addfont(tmp_path / "squares.ttf")
    assert fonts.drawable("首都 é") == "首都 é"
    assert fonts.drawable("東") == "□"
    capsys.readouterr()
    assert drawn(tmp_path / "drawn.png", "首都 é") != boxes
    assert capsys.readouterr().err == ""
    assert drawn(tmp_path / "latin.png", "a é") == drawn(tmp_path / "again.png", "a é")


def test_the_font_of_the_extra_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "a_package_with_a_font"
    package.mkdir()
    (package / "__init__.py").touch()
    make_font(package / "squares.otf", "首")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fonts, "_EXTRA", package.name)
    assert fonts.family_of("首") == "Squares"
    assert fonts._candidates()[0][0] == "Squares"
