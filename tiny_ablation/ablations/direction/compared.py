"""The effect of each direction among those of random directions of the same length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.ablations.direction.vectors import OneDirection
from tiny_ablation.document import Section, Table
from tiny_ablation.formats import plain
from tiny_ablation.run.id_columns import named
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.plan import Analysis
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.percentile import percentile_among

N_SHOWN = 8
N_ON_TEXT = 3  # random directions of each layer that are tried on unrelated text
# The columns that are shown, with their headings and places.
_SHOWN = {
    "norm": ("length", 2),
    "delta": ("effect", 2),
    "random_mean": ("mean size of random ones", 2),
    "random_max": ("largest of them", 2),
    "random_percentile": ("percentile", 2),
    "text_kl": ("KL on text", 4),
    "random_text_kl": ("of random ones", 4),
}


def analyse(prepared: PreparedRun, measured: Sequence[Measured]) -> Analysis:
    """`directions`: a row a layer and metric.

    `norm` is the length of the direction, `delta` its mean effect; `random_mean` and `random_max` are the mean and the largest
    size of the effects of its `n_random` random directions, `random_percentile` the share of these that are smaller (equal ones
    half) times 100. `text_kl` is the divergence of the next-token distribution on unrelated text, `random_text_kl` the mean of
    that of the first random directions; both are missing without text.
    """
    found = next(m for m in measured if m.arm.in_table)
    random = {m.arm.controls_of: m for m in measured if m.arm.controls_of}
    records, on_text = [], _on_text(prepared, found, random)
    for i, row in enumerate(found.arm.rows):
        mine = aligned([found, *([random[f"L{row.key['layer']}"]] if random else [])])
        direction = row.runs[0].edits[0].replacement.lookup
        assert isinstance(direction, OneDirection)
        for metric in prepared.metrics if len(mine[0].examples) else ():
            delta, *others = [m.mean_delta(metric.name) for m in mine]
            sizes = np.abs(others[0]) if others else np.full(1, np.nan)
            records.append(
                {
                    "layer": row.key["layer"],
                    "metric": metric.name,
                    "norm": float(direction.vector().double().norm()),
                    "delta": float(delta[i]),
                    "n_random": len(sizes) if others else 0,
                    "random_mean": float(sizes.mean()),
                    "random_max": float(sizes.max()),
                    "random_percentile": percentile_among(abs(delta[i]), sizes) if others else np.nan,
                    "text_kl": on_text[i][0],
                    "random_text_kl": on_text[i][1],
                }
            )
    if not records:
        return Analysis()
    table = pd.DataFrame(records).astype({"layer": "int32", "n_random": "int32"})
    records = [{name: None if value != value else value for name, value in r.items()} for r in records]
    primary = [r for r in records if r["metric"] == prepared.metrics[0].name and r["n_random"]]
    return Analysis({"directions": named(prepared, table)}, notes={"beside_random_directions": primary})


def _on_text(prepared: PreparedRun, found: Measured, random: Mapping[str, Measured]) -> list[tuple[float, float]]:
    """For each row the divergence on unrelated text, and the mean of that of its first random directions."""
    root = prepared.spec.settings.root
    cfg: Any = root.ablation
    if not cfg.n_text:
        return [(np.nan, np.nan)] * len(found.arm.rows)
    from tiny_ablation.ablations.direction.text import divergence

    each = [[row, *(random[f"L{row.key['layer']}"].arm.rows[:N_ON_TEXT] if random else [])] for row in found.arm.rows]
    plan = [row.runs[0] for rows in each for row in rows]
    values = iter(divergence(prepared.network, plan, cfg.n_text, root.device.batch_tokens))
    of_rows = [[next(values) for _ in rows] for rows in each]
    return [(own, float(np.mean(others)) if others else np.nan) for own, *others in of_rows]


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
    rows = [[f"L{line['layer']}", *(plain(line[name], places) for name, (_, places) in _SHOWN.items())] for line in strongest]
    caption = (
        "The strongest directions, on the primary metric, beside random directions of the same length; and what both do to the "
        "next token of unrelated text, in nats."
    )
    head = ["layer", *(heading for heading, _ in _SHOWN.values())]
    return [Section("Directions", text, [Table(caption, head, rows)])]
