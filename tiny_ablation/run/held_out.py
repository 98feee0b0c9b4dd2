"""Held-out confirmation: the strongest sites of one split, measured again on the examples of another.

The strongest of many sites are partly the luckiest, so an effect that was chosen and measured on the same examples is too large
and its p-value too small. On examples that had no part in the choice both are as honest as those of sites named in advance, and
only these few sites are tested.
"""

from collections.abc import Sequence
from dataclasses import replace

from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import Row
from tiny_ablation.run.prepare import PreparedRun

Site = tuple[object, ...]


def site(row: Row) -> Site:
    """What makes a row the same row in another plan."""
    return (row.described.direction, *row.key.values())


def strongest(measured: Sequence[Measured], metric: str, n: int) -> dict[Site, float]:
    """The `n` sites with the largest absolute mean effect on `metric`, and that effect; ties stay in the order of the plan."""
    effects: dict[Site, float] = {}
    for m in (m.strongest() for m in measured if m.arm.in_table):
        effects |= {
            site(row): float(delta) for row, delta in zip(m.arm.rows, m.mean_delta(metric), strict=True)
        }
    chosen = sorted(effects, key=lambda key: -abs(effects[key]))[:n]
    return {key: effects[key] for key in chosen}


def only(prepared: PreparedRun, sites: Sequence[Site]) -> PreparedRun:
    """The plan of the other split, cut down to these sites."""
    arms = [
        replace(
            arm,
            rows=[row for row in arm.rows if row.intervention is not None and site(row) in sites],
            estimates=None,
        )
        for arm in prepared.arms
        if arm.in_table
    ]
    return replace(prepared, arms=[arm for arm in arms if arm.rows])
