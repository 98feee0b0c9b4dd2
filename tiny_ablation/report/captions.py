"""What stands beside the numbers of a run, so that they are read as what they are; for the terminal and the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from tiny_ablation import formats
from tiny_ablation.report import tables

_CHOSEN = {"random_sample": "random sites", "top": "strongest estimates"}


def of_table(
    rows: Sequence[Mapping[str, Any]],
    metric: str,
    null: str,
    family_size: int,
    resolution: str | None,
    confidence: float,
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
    if any(formats.holds_zero(*tables.interval_of_chosen(row)) for row in rows):
        lines.append(
            f"unresolved: the {formats.percent(confidence)} interval holds 0; not told apart from no effect"
        )
    return lines


def of_estimates(found: Mapping[str, Any]) -> str:
    """What was estimated and how, in a line.

    Args:
        found: `notes.attribution` of `metrics/summary.json`.
    """
    passes = f"{found['backward_passes']} backward {'pass' if found['backward_passes'] == 1 else 'passes'} an example"
    return (
        f"{found['metric']} of {found['estimated']} sites from gradients ({found['how']}, {passes}); "
        f"{found['measured']} were measured"
    )


def agreement(found: Mapping[str, Any]) -> list[list[str]]:
    """A table of how estimates follow exact effects, the heading first; empty where nothing could be compared."""
    parts = [(said, found[name]) for name, said in _CHOSEN.items() if name in found]
    rows = [
        [
            said,
            str(part["n"]),
            formats.plain(formats.number(part["rank_correlation"]), 2),
            f"{part['sign_agreement']:.0%}",
        ]
        for said, part in parts
    ]
    return (
        [["estimate against exact effect", "sites", "rank correlation", "equal signs"], *rows] if rows else []
    )


def of_receipt(found: Mapping[str, Any]) -> list[str]:
    """What the estimates are good for, in sentences: above all, what choosing by them may have missed."""
    return [
        found["text"] if "recall" not in found else found["recall"]["text"],
        "effects in the tables are measured, estimates stand in metrics/attribution.parquet only",
    ]
