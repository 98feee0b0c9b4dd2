"""What stands beside the numbers of a run, so that they are read as what they are; for the terminal and the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from tiny_ablation import formats
from tiny_ablation.run import effects


def of_table(
    rows: Sequence[Mapping[str, Any]], metric: str, null: str, family_size: int, resolution: str | None, confidence: float
) -> list[str]:
    """What is needed to read the table of the strongest sites."""
    lines = [
        f"change: {metric} with the site intervened on, minus the baseline; mean over examples",
        "shrunken: the change to expect on new examples; the interval allows for these sites' being chosen as the strongest",
    ]
    if resolution:
        lines.append(f"q: {resolution}")
    else:
        lines.append(f"q: false discovery rate over {family_size} tests; null: {null}")
    if any(formats.holds_zero(*effects.interval_of_chosen(row)) for row in rows):
        lines.append(f"unresolved: the {formats.percent(confidence)} interval includes 0; not told apart from no effect")
    return lines
