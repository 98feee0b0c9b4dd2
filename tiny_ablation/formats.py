"""Numbers as people read them: places, signs, intervals; the same on the terminal, in pages and in figures."""

import math
from collections.abc import Iterable

NO_BREAK = "\N{NO-BREAK SPACE}"


def decimals(values: Iterable[float]) -> int:
    """Decimals that give the largest of a column three significant digits, so that its numbers align."""
    size = largest(values)
    if size >= 100.0 or size == 0.0:
        return 1 if size else 3
    return min(6, max(3, 2 - math.floor(math.log10(size))))


def largest(values: Iterable[float]) -> float:
    """The largest size of a finite number; 0 where there is none."""
    return max((abs(value) for value in values if math.isfinite(value)), default=0.0)


def signed(value: float | None, places: int) -> str:
    """`+0.123`, `-0.123`; what rounds to zero has no sign, and what is missing is `-`."""
    if value is None or not math.isfinite(value):
        return "-"
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0.0 else text


def number(value: float | None) -> float:
    """A number from a table or from JSON, where what could not be estimated is null."""
    return float("nan") if value is None else float(value)


def plain(value: float | None, places: int) -> str:
    """`0.123`; what is missing is `-`."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{places}f}"


def interval(low: float | None, high: float | None, places: int) -> str:
    """`[-0.200, +0.123]`; what is missing is `-`."""
    return _between(signed(low, places), signed(high, places))


def bounds(low: float | None, high: float | None, places: int) -> str:
    """`[0.683, 0.800]`: an interval of a level rather than of a change."""
    return _between(plain(low, places), plain(high, places))


def _between(*ends: str) -> str:
    return "-" if "-" in ends else f"[{', '.join(ends)}]"


def probability(value: float | None) -> str:
    """A p- or q-value: `0.012`, `<0.001`, or `-` where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def percent(confidence: float) -> str:
    """`95 %` for 0.95."""
    return f"{100 * confidence:g} %"


def holds_zero(low: float | None, high: float | None) -> bool:
    """Whether an interval cannot tell an effect from none; a missing interval cannot."""
    return low is None or high is None or not (low > 0.0 or high < 0.0)
