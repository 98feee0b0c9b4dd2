import math

import pytest

from tiny_ablation import formats
from tiny_ablation.document.figures import symmetric_limit
from tiny_ablation.report.figures import interactive, style


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _lightness(colour: str) -> float:
    """L* of CIELAB, 0 to 100."""
    y = _luminance(colour)
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


@pytest.mark.parametrize("scale", [style.DIVERGING, style.DIVERGING_DARK])
def test_both_ends_of_the_scale_are_equally_light_and_the_middle_is_the_extreme(scale):
    lightness = [_lightness(colour) for colour in scale]
    middle = len(scale) // 2
    for i in range(middle):
        assert abs(lightness[i] - lightness[-1 - i]) < 6
    steps = [abs(value - lightness[middle]) for value in lightness]
    assert steps[: middle + 1] == sorted(steps[: middle + 1], reverse=True)
    assert steps[middle:] == sorted(steps[middle:])


def test_the_limit_is_the_largest_size_on_either_side():
    assert symmetric_limit([0.1, -0.7, 0.5, math.nan]) == 0.7
    assert symmetric_limit([0.1, -0.2, 0.7]) == 0.7


def test_a_scale_of_nothing_has_a_width():
    assert symmetric_limit([]) == 1.0
    assert symmetric_limit([0.0, 0.0]) == 1.0


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [(1.23456, 3, "+1.235"), (-1.23456, 3, "-1.235"), (-0.0001, 3, "0.000"), (0.0, 2, "0.00"), (math.nan, 3, "-")],
)
def test_signed(value, places, text):
    assert formats.signed(value, places) == text


@pytest.mark.parametrize(("largest", "places"), [(123.4, 1), (12.3, 3), (1.2, 3), (0.34, 3), (0.034, 4), (0.0, 3)])
def test_decimals_show_three_significant_digits_of_the_largest(largest, places):
    assert formats.decimals([0.0, -largest]) == places


@pytest.mark.parametrize(
    ("value", "text"), [(0.0001, "<0.001"), (0.0449, "0.045"), (1.0, "1.000"), (None, "-"), (math.nan, "-")]
)
def test_probability(value, text):
    assert formats.probability(value) == text


@pytest.mark.parametrize(
    ("low", "high", "holds"),
    [(-1, 1, True), (0.0, 1, True), (-1, 0.0, True), (0.1, 1, False), (-1, -0.1, False), (math.nan, math.nan, True)],
)
def test_holds_zero(low, high, holds):
    assert formats.holds_zero(low, high) is holds


def test_names_of_panels_are_broken_between_words_and_shown_as_they_are():
    names, lines = interactive.headings(["short", "a <b>name</b> of several words"], 84)
    assert names == ["short", "a<br>&lt;b&gt;name&lt;/b&gt;<br>of several<br>words"]
    assert lines == 4
