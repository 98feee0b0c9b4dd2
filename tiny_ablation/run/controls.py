"""Where a head stands among the other heads of its run: all of them, those of its layer, and those that write as much.

Removing any head does some harm; these are the empirical nulls that say how much. They cost no further interventions, since the
other heads were measured anyway. Norm-matched controls answer the objection that a head matters only for being loud.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tiny_ablation.engine.norms import head_norms
from tiny_ablation.run.id_columns import stacked
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import Row
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.percentile import percentile_among

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_MATCHED = 20
"""Heads of nearest norm that one is compared with; at most half of the others."""

MIN_HEADS = 3  # fewer are no distribution


def site_controls(prepared: PreparedRun, measured: Sequence[Measured]) -> pd.DataFrame | None:
    """A row per head, factor and metric; None unless at least three heads were measured alone.

    `size` is the absolute mean effect; `random_mean` the mean size of all other heads and `random_percentile` the share of them
    with a smaller one (equal ones half) times 100; `layer_percentile` the same among the heads of the layer, `matched_mean` and
    `matched_percentile` among the `n_matched` heads whose output is nearest in length: `norm` is the mean length of the vector
    z_h W_O,h that the head adds to the residual stream at the touched positions. The last are missing for q, k and v.
    """
    alone = [m for m in measured if m.arm.in_table and all("head" in row.key for row in m.arm.rows)]
    frames = [frame for m in alone for frame in _of_arm(prepared, m)]
    return stacked(prepared, frames)


def controls_table(prepared: PreparedRun, measured: Sequence[Measured]) -> pd.DataFrame | None:
    """The effect of every random counterpart (`Arm.controls_of`), a row for each and metric; None where there are none."""
    frames = []
    for m in (m for m in measured if m.arm.controls_of):
        for name in (metric.name for metric in prepared.metrics):
            values = m.values[name].mean(1)
            columns = {
                "set": m.arm.controls_of,
                "control": np.arange(len(values), dtype="int32"),
                "heads": [row.sites for row in m.arm.rows],
                "metric": name,
                "value": values,
                "delta": values - m.baseline[name].mean(),
            }
            frames.append(pd.DataFrame(columns))
    return stacked(prepared, frames)


def _of_arm(prepared: PreparedRun, measured: Measured) -> Iterator[pd.DataFrame]:
    rows = np.flatnonzero(measured.ran).tolist()
    by_scale: dict[Any, list[int]] = {}
    for i in rows:
        by_scale.setdefault(measured.arm.rows[i].key["scale"], []).append(i)
    usable = [mine for mine in by_scale.values() if len(mine) >= MIN_HEADS]
    # (n_layers, n_heads) the mean length of what each head writes, un-intervened; None where that is not what is replaced.
    norms: Any = None
    if usable and (edit := measured.arm.rows[rows[0]].runs[0].edits[0]).component == "z":
        norms = head_norms(measured.arm.network or prepared.network, measured.arm.prompts, edit.positions)
    for mine in usable:
        heads = [measured.arm.rows[i] for i in mine]
        of_heads = None if norms is None else np.array([norms[r.key["layer"], r.key["head"]] for r in heads])
        for metric in prepared.metrics:
            sizes = np.abs(measured.of_rows(mine).mean_delta(metric.name))
            yield _compared(heads, sizes, of_heads).assign(metric=metric.name)


def _compared(heads: Sequence[Row], sizes: Any, norms: "NDArray[np.float64] | None") -> pd.DataFrame:
    layers = np.array([row.key["layer"] for row in heads])
    records = []
    for i, row in enumerate(heads):
        others = np.arange(len(heads)) != i
        matched = sizes[:0] if norms is None else sizes[nearest(norms, i)]
        records.append(
            {
                **row.key,
                "direction": row.described.direction,
                "size": sizes[i],
                "random_mean": sizes[others].mean(),
                "random_percentile": percentile_among(sizes[i], sizes[others]),
                "layer_percentile": percentile_among(sizes[i], sizes[others & (layers == layers[i])]),
                "norm": np.nan if norms is None else norms[i],
                "n_matched": len(matched),
                "matched_mean": matched.mean() if len(matched) else np.nan,
                "matched_percentile": percentile_among(sizes[i], matched),
            }
        )
    return pd.DataFrame(records)


def nearest(norms: "NDArray[np.float64]", own: int) -> "NDArray[np.int64]":
    """The indices of the heads whose norm is nearest to that of head `own`, by ratio; the first wins a tie."""
    logs = np.log(np.maximum(norms, np.finfo(np.float64).tiny))
    order = np.argsort(np.abs(logs - logs[own]), kind="stable")
    others = order[order != own]
    return others[: min(N_MATCHED, max(1, len(others) // 2))]
