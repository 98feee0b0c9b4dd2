"""Which pairs of heads stand in for each other: what the two do together against the sum of what each does alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tiny_ablation import formats
from tiny_ablation.ablations.pairs.interaction import interaction_columns
from tiny_ablation.document import Section, Table
from tiny_ablation.models.labels import site_label
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.prepare import PreparedRun

_LEVEL, _SHOWN = 0.05, 8


def interactions(prepared: PreparedRun, measured: Sequence[Measured]) -> dict[str, Any] | None:
    """The pairs whose interaction on the primary metric has q of at most .05, the largest first, and how many were tested.

    None where no example was finished.
    """
    own, name = next(m for m in measured if m.arm.in_table), prepared.metrics[0].name
    columns = interaction_columns(prepared, own, measured, name)
    if np.isnan(columns["interaction"]).all():
        return None
    pairs = [
        {"pair": site_label(row.key), **{key: float(column[i]) for key, column in columns.items()}}
        for i, row in enumerate(own.arm.rows)
    ]
    told = [pair for pair in pairs if pair["interaction_q"] <= _LEVEL]
    told.sort(key=lambda pair: -abs(pair["interaction"]))
    return {"metric": name, "n": len(pairs), "pairs": told}


def sections(found: Mapping[str, Any] | None) -> list[Section]:
    """Which pairs do more together than both alone, and which do less."""
    if not found:
        return []
    metric, pairs = found["metric"], found["pairs"]
    more = [pair for pair in pairs if pair["interaction"] * (pair["delta_a"] + pair["delta_b"]) > 0]
    text = [
        f"Of {found['n']} pairs, {len(pairs)} interact (q at most {_LEVEL:g}): {len(more)} where the two change {metric} by "
        "more than the sum of both alone, so that each does some of the other's work when that one is gone, and "
        f"{len(pairs) - len(more)} where they change it by less, or against it: what one head does goes through the other, or "
        "the behaviour has no more to lose."
    ]
    first = (more or pairs or [None])[0]
    if first is None:
        headline = f"No two heads are shown to stand in for each other: no pair interacts on {metric}."
    else:
        alone = first["delta_a"] + first["delta_b"]
        change = (
            f"together they change {metric} by {formats.signed(alone + first['interaction'], 3)}, and alone by "
            f"{formats.signed(first['delta_a'], 3)} and {formats.signed(first['delta_b'], 3)}"
        )
        headline = f"{first['pair']} {'stand in for each other' if more else 'overlap'}: {change}."
    table = Table(
        "The pairs that interact: both effects alone, and what the pair does beyond their sum, with its interval and q over "
        "all pairs.",
        ("pair", "first", "second", "beyond the sum", "interval", "q"),
        [
            (
                pair["pair"],
                formats.signed(pair["delta_a"], 3),
                formats.signed(pair["delta_b"], 3),
                formats.signed(pair["interaction"], 3),
                formats.bounds(pair["interaction_low"], pair["interaction_high"], 3),
                formats.probability(pair["interaction_q"]),
            )
            for pair in pairs[:_SHOWN]
        ],
    )
    return [Section("Interactions", text, [table] if pairs else (), headline, firm=bool(pairs))]
