"""The effect of each direction among those of random directions of the same length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.ablations.direction.vectors import OneDirection
from tiny_ablation.document import Section, Table
from tiny_ablation.run.id_columns import named
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.plan import Analysis, Row
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.percentile import percentile_among

N_SHOWN = 8
_SHOWN = ("norm", "delta", "random_mean", "random_max", "random_percentile")


def analyse(prepared: PreparedRun, measured: Sequence[Measured]) -> Analysis:
    """`directions`: a row a layer and metric.

    `norm` is the length of the direction, `delta` its mean effect; `random_mean` and `random_max` are the mean and the largest
    size of the effects of its `n_random` random directions, `random_percentile` the share of these that are smaller (equal ones
    half) times 100.
    """
    found = next(m for m in measured if m.arm.in_table)
    random = {m.arm.controls_of: m for m in measured if m.arm.controls_of}
    records = []
    for i, row in enumerate(found.arm.rows):
        mine = aligned([found, *([random[f"L{row.key['layer']}"]] if random else [])])
        for metric in prepared.metrics if len(mine[0].examples) else ():
            delta, *others = [m.mean_delta(metric.name) for m in mine]
            sizes = np.abs(others[0]) if others else np.full(1, np.nan)
            records.append({
                "layer": row.key["layer"], "metric": metric.name, "norm": _norm(row), "delta": float(delta[i]),
                "n_random": len(sizes) if others else 0, "random_mean": float(sizes.mean()), "random_max": float(sizes.max()),
                "random_percentile": percentile_among(abs(delta[i]), sizes) if others else np.nan,
            })  # fmt: skip
    if not records:
        return Analysis()
    table = pd.DataFrame(records).astype({"layer": "int32", "n_random": "int32"})
    primary = [r for r in records if r["metric"] == prepared.metrics[0].name and r["n_random"]]
    return Analysis({"directions": named(prepared, table)}, notes={"beside_random_directions": primary})


def _norm(row: Row) -> float:
    assert row.intervention is not None
    lookup = row.intervention.edits[0].replacement.lookup
    assert isinstance(lookup, OneDirection)
    return float(lookup.vector().double().norm())


def sections(summary: Mapping[str, Any]) -> list[Section]:
    """Where the directions come from, and their effects beside those of random ones."""
    notes = summary.get("notes", {})
    if "directions" not in notes:
        return []
    text, lines = [notes["directions"]["text"]], notes.get("beside_random_directions")
    if not lines:
        return [Section("Directions", text)]
    beyond = [f"L{line['layer']}" for line in lines if abs(line["delta"]) > line["random_max"]]
    n_random = lines[0]["n_random"]
    text.append(
        f"In {len(beyond)} of {len(lines)} layers the effect is larger than that of each of {n_random} random directions of "
        f"the same length{': ' if beyond else ''}{', '.join(beyond)}; of directions that mean nothing, one in "
        f"{n_random + 1} is."
    )
    strongest = sorted(lines, key=lambda line: -abs(line["delta"]))[:N_SHOWN]
    rows = [
        [f"L{line['layer']}", *(formats.plain(formats.number(line[name]), 2) for name in _SHOWN)]
        for line in strongest
    ]
    head = ["layer", "length", "effect", "mean size of random ones", "largest of them", "percentile"]
    caption = "The strongest directions, on the primary metric, beside random directions of the same length."
    return [Section("Directions", text, [Table(caption, head, rows)])]
