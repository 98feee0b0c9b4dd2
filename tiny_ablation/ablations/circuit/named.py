"""Circuits of a run that are no beginning of a ranking: the smallest that was searched, and a published one."""

import numpy as np
import pandas as pd

from tiny_ablation.ablations.circuit.curves import Curves, mean_of
from tiny_ablation.ablations.circuit.design import ROLES, carries
from tiny_ablation.run.plan import Arm
from tiny_ablation.stats.percentile import percentile_among

_COLUMNS = {"kept": ("faithfulness", "sufficiency"), "removed": ("left", "necessity")}


def named_circuits(curves: Curves, arm: Arm) -> pd.DataFrame:
    """A row for each, with the columns of the table `circuit`: `circuit` is its name, `searched_f` what the search saw.

    Args:
        curves: the values of every set.
        arm: the one with the named circuits.
    """
    names = [str(row.key["set"]).removesuffix("/kept") for row in arm.rows]
    own = {n: row for n, row in zip(names, arm.rows, strict=True) if f"{n}/kept" == row.key["set"] and "/top_" not in n}
    searched = arm.notes.get("minimal", {})
    frame = pd.DataFrame(
        {
            "circuit": [*own],
            "size": np.array([row.key["size"] for row in own.values()], dtype="int32"),
            "heads": [row.sites for row in own.values()],
            "metric": curves.prepared.metrics[0].name,
            "n": np.int32(len(curves.full)),
            "searched_f": [_searched(searched.get(name.removesuffix("/minimal"))) for name in own],
        }
    )
    if frame.empty:
        return frame
    for role in ROLES:
        column, placed = _COLUMNS[role]
        found = curves.ratios(np.array([curves.above(f"{name}/{role}") for name in own]), at_once=True)
        null = [curves.randoms_of(f"{name}/{role}") for name in own]
        sign = 1 if role == "kept" else -1
        frame = frame.assign(
            **{column: found.ratio, f"random_{column}": [mean_of(others) for others in null]},
            **found.columns(*(f"{column}_{end}" for end in ("low", "high", "shape"))),
            **{
                f"{placed}_percentile": [
                    percentile_among(sign * f, sign * others) for f, others in zip(found.ratio, null, strict=True)
                ]
            },
        )
    return frame.assign(carries=carries(frame["faithfulness_low"], frame["faithfulness_high"]))


def _searched(found: dict[str, float | None] | None) -> float:
    return float("nan") if found is None or found["f"] is None else float(found["f"])
