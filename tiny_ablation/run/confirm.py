"""Held-out confirmation: the strongest sites of one split, measured again on the examples of another, and tests of these alone.

The strongest of many sites are partly the luckiest, so an effect that was chosen and measured on the same examples is too large
and its p-value too small. On examples that had no part in the choice both are as honest as those of sites named in advance, and
only these few sites are tested.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.data.text import listing
from tiny_ablation.run.measure import Measured, executors, measure, total
from tiny_ablation.run.plan import Row
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.run.tables import impact_table
from tiny_ablation.stats.fdr import LEVEL
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import EFFECT, TABLES, largest_first

Site = tuple[object, ...]


@dataclass(frozen=True)
class Confirmation:
    """What the held-out examples gave."""

    # a row per chosen site and metric: the columns of the impact table; `delta_chosen`, the effect on the examples of the
    # choice; and `confirmed`, 1 where q is at most 0.05 and the sign is that of the choice (NaN without a test)
    table: pd.DataFrame
    summary: dict[str, Any]  # `confirm` of `summary.json`


def confirm(
    prepared: PreparedRun, measured: Sequence[Measured], rundir: RunDir, progress: Callable[[int], AbstractContextManager[Any]]
) -> Confirmation | None:
    """Measure the strongest sites on the held-out split; None where the config names none.

    `measured` are the arms as the tables show them (`Ablation.combine`).
    Finished batches are kept in the run's directory, which this process has locked. `progress` gives the progress of a stage
    (with `advance`) as a context, from its number of interventions x examples.

    Raises:
        Stopped: Ctrl-C or SIGTERM.
    """
    if prepared.held_out is None:
        return None
    n = prepared.spec.settings.root.stats.confirm_top
    chosen = strongest(measured, prepared.metrics[0].name, n)
    held = only(prepared.held_out, list(chosen))
    work = executors(held)
    with progress(total(work)) as stage:
        again = measure(held, rundir, work, stage.advance, part="confirm")
    return confirmation(prepared, measured, held, again, chosen)


def confirmation(
    prepared: PreparedRun,
    measured: Sequence[Measured],
    held: PreparedRun,
    again: Sequence[Measured],
    chosen: Mapping[Site, float],
) -> Confirmation:
    """Compare the chosen sites on the two splits.

    `prepared` and `measured` are of the run that chose, `held` and `again` of the held-out split; `chosen` has the effects on
    the primary metric, the strongest first.
    """
    found = impact_table(held, again)
    primary = prepared.metrics[0].name
    table = found.impact.assign(delta_chosen=[_chosen_effect(measured, row) for row in found.impact.to_dict("records")])
    same = np.sign(table["delta_chosen"]) == np.sign(table["delta"])
    tested = table["q_value"].notna()
    table["confirmed"] = np.where(tested, (table["q_value"] <= LEVEL) & same, np.nan)
    rows = table.loc[table["metric"] == primary, :]
    rows = largest_first(rows, "delta_chosen")
    groups = set(again[0].groups)
    told_apart = ["direction"] if len(set(rows["direction"])) > 1 else []
    columns = [*TABLES[prepared.spec.table].index, *told_apart, "delta_chosen", *EFFECT, "value", "confirmed"]
    return Confirmation(
        table,
        {
            "split": held.spec.settings.root.dataset.split.value,
            "chosen_on": prepared.spec.settings.root.dataset.split.value,
            "metric": primary,
            "n_examples": len(again[0].examples),
            "n_groups": len(groups),
            "shared_groups": sorted(groups & set(measured[0].groups)),
            "family_size": found.family_size,
            "resolution": found.unresolvable,
            "missing": len(chosen) - len(rows),
            "n_confirmed": None if found.unresolvable else int(rows["confirmed"].sum()),
            "n_same_sign": int((np.sign(rows["delta_chosen"]) == np.sign(rows["delta"])).sum()),
            "sites": rows.loc[:, columns].to_dict("records"),
        },
    )


def site(row: Row) -> Site:
    """What makes a row the same row in another plan."""
    return (row.described.direction, *row.key.values())


def strongest(measured: Sequence[Measured], metric: str, n: int) -> dict[Site, float]:
    """The `n` sites with the largest absolute mean effect on `metric`, and that effect; ties stay in the order of the plan."""
    effects: dict[Site, float] = {}
    for m in (m.strongest() for m in measured if m.arm.in_table):
        effects |= {site(row): float(delta) for row, delta in zip(m.arm.rows, m.mean_delta(metric), strict=True)}
    chosen = sorted(effects, key=lambda key: -abs(effects[key]))[:n]
    return {key: effects[key] for key in chosen}


def only(prepared: PreparedRun, sites: Sequence[Site]) -> PreparedRun:
    """The plan of the other split, cut down to these sites."""
    arms = [
        replace(arm, rows=[row for row in arm.rows if row.intervention is not None and site(row) in sites], estimates=None)
        for arm in prepared.arms
        if arm.in_table
    ]
    return replace(prepared, arms=[arm for arm in arms if arm.rows])


def confirm_warnings(summary: Mapping[str, Any] | None) -> list[str]:
    """What a reader must know about how well the two splits are kept apart."""
    if not summary or not summary["shared_groups"]:
        return []
    shared = summary["shared_groups"]
    return [
        f"stats.confirm={summary['split']}: {len(shared)} of its {summary['n_groups']} groups also stand in "
        f"dataset.split={summary['chosen_on']} ({listing(shared)}), so it confirms on new examples, not on new groups"
    ]


def _chosen_effect(measured: Sequence[Measured], row: Mapping[str, Any]) -> float:
    """The mean effect of this site on this metric where it was chosen."""
    for m in measured:
        for i, mine in enumerate(m.arm.rows):
            if (
                m.arm.in_table
                and mine.described.direction == row["direction"]
                and all(row[name] == value for name, value in mine.key.items())
            ):
                return float(m.mean_delta(row["metric"])[i])
    return float("nan")
