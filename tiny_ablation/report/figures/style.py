"""How figures, the terminal and the page look: colours, sizes, the diverging scale, the format of numbers.

Plain values only, so that importing it costs nothing. Colour means sign and nothing else: vermilion is below
the baseline, blue above it, and the middle of the scale is always exactly zero. The two hues stay apart under
every common colour-vision deficiency and have equal lightness at equal distance from zero.
"""

import math
from collections.abc import Iterable

# From the most negative to the most positive; the middle one is zero.
DIVERGING = (
    "#7d1d0e", "#b8432a", "#e07f5f", "#f3c3ae", "#f5f4f2", "#b3d2ea", "#6ba3d0", "#2f6ba8", "#103a6b",
)  # fmt: skip
# On a dark page the far ends are bright and zero recedes into the page.
DIVERGING_DARK = (
    "#ffd2c0", "#f79a78", "#d0603d", "#7a3b29", "#2a2d33", "#23506f", "#3d83b8", "#7fbbe6", "#cbe6fa",
)  # fmt: skip

# For conditions, directions and the like; Okabe and Ito's colours (2008), told apart under every colour-vision deficiency.
CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56a0d0", "#e69f00", "#4d4d4d")
CATEGORIES_DARK = ("#56b4e9", "#f4874b", "#35c79c", "#e6a3c8", "#d9c24a", "#9fd0f0", "#f5bf4f", "#c8ccd2")
DASHES = ("solid", "dash", "dot", "dashdot")  # beside colour, for print without it

PAPER, INK, MUTED, LINE = "#ffffff", "#1d2127", "#6a717c", "#d5d8dd"
INK_DARK, MUTED_DARK, LINE_DARK = "#e8eaee", "#9aa2ae", "#3b4049"
BELOW, ABOVE = DIVERGING[1], DIVERGING[7]
BELOW_DARK, ABOVE_DARK = DIVERGING_DARK[1], DIVERGING_DARK[7]
UNRESOLVED = "#9aa0a9"  # no hue, since its sign is not known

FONT, NUMBER_FONT = (
    "DejaVu Sans",
    "DejaVu Sans Mono",
)  # come with matplotlib, so that figures are the same everywhere
WEB_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
DPI = 170
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 11.0, 9.0, 8.0  # points
WEB_SIZE = 13  # pixels


def symmetric_limit(values: Iterable[float]) -> float:
    """The half-width of a colour scale centred on zero: the largest size, so that nothing lies beyond it."""
    return max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0


def decimals(values: Iterable[float]) -> int:
    """Decimals that give the largest of a column three significant digits, so that its numbers align."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest >= 100.0 or largest == 0.0:
        return 1 if largest else 3
    return min(6, max(3, 2 - math.floor(math.log10(largest))))


def signed(value: float, places: int) -> str:
    """`+0.123`, `-0.123`; what rounds to zero has no sign, and what is missing is `-`."""
    if not math.isfinite(value):
        return "-"
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0.0 else text


def number(value: float | None) -> float:
    """A number from a table or from JSON, where what could not be estimated is null."""
    return float("nan") if value is None else float(value)


def plain(value: float, places: int) -> str:
    """`0.123`; what is missing is `-`."""
    return f"{value:.{places}f}" if math.isfinite(value) else "-"


def interval(low: float, high: float, places: int) -> str:
    """`[-0.200, +0.123]`; what is missing is `-`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "-"
    return f"[{signed(low, places)}, {signed(high, places)}]"


def bounds(low: float, high: float, places: int) -> str:
    """`[0.683, 0.800]`: an interval of a level rather than of a change."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "-"
    return f"[{plain(low, places)}, {plain(high, places)}]"


def probability(value: float | None) -> str:
    """A p- or q-value: `0.012`, `<0.001`, or `-` where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def percent(confidence: float) -> str:
    """`95 %` for 0.95."""
    return f"{100 * confidence:g} %"


def holds_zero(low: float, high: float) -> bool:
    """Whether an interval cannot tell an effect from none; a missing interval cannot."""
    return not (low > 0.0 or high < 0.0)
