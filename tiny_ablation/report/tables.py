"""Reading an impact table: its index columns, the rows worth showing, the name of a site."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.errors import ResultsError
from tiny_ablation.report.figures import style

_SHORT = {name: name[0].upper() for name in ("layer", "head", "layer_a", "head_a", "layer_b", "head_b")}
_SCALE_OF_NOTHING = 1.0  # a site multiplied by one is the baseline


def index_columns(impact: pd.DataFrame) -> tuple[str, ...]:
    """The columns that say which site a row is about: those between `seed` and `metric`."""
    names = list(impact.columns)
    return tuple(names[names.index("seed") + 1 : names.index("metric")])


def effects(impact: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of `metric`, without those at scale 1, which are the baseline.

    Returns:
        A copy with a fresh index and a column `resolved`: whether the interval excludes 0.

    Raises:
        ResultsError: the table has no such row.
    """
    rows = impact[impact["metric"] == metric]
    if "scale" in rows:
        rows = rows[rows["scale"] != _SCALE_OF_NOTHING]
    if rows.empty:
        known = ", ".join(sorted(impact["metric"].unique())) or "none"
        raise ResultsError(
            f"the impact table has no effect on '{metric}' to show (metrics in it: {known}); set metrics.primary to "
            "one of them, and ablation.scales to something other than 1.0"
        )
    return rows.assign(resolved=(rows["ci_low"] > 0) | (rows["ci_high"] < 0)).reset_index(drop=True)


def scales(rows: pd.DataFrame) -> list[float | None]:
    """The scales in `rows`, the strongest intervention (farthest from 1) first; `[None]` where there are
    none."""
    if "scale" not in rows or rows["scale"].isna().all():
        return [None]
    return sorted((float(s) for s in rows["scale"].dropna().unique()), key=lambda s: (-abs(s - 1.0), s))


def at_scale(rows: pd.DataFrame, scale: float | None) -> pd.DataFrame:
    """The rows of one scale; all of them where there are no scales."""
    return rows if scale is None else rows[rows["scale"] == scale]


def strongest(rows: pd.DataFrame, limit: int | None = None) -> pd.DataFrame:
    """Rows by the size of their effect, largest first; ties stay in the order of the table."""
    order = np.argsort(-rows["delta"].abs().fillna(-1.0).to_numpy(), kind="stable")
    return rows.iloc[order[:limit]]


def label(row: Mapping[str, Any], index: Sequence[str]) -> str:
    """The short name of a site: `L12 H3`, `L4 mlp`; the scale is left to the caller."""
    parts = []
    for name in index:
        if name != "scale":
            parts.append(f"{_SHORT[name]}{row[name]}" if name in _SHORT else _plain(name, row[name]))
    return " ".join(parts)


def long_label(row: Mapping[str, Any], index: Sequence[str]) -> str:
    """The name of a site in a sentence: `layer 12, head 3`."""
    return ", ".join(_plain(name, row[name]) for name in index if name != "scale")


def _plain(name: str, value: Any) -> str:
    return value if isinstance(value, str) else f"{name.replace('_', ' ')} {value}"


def examples(rows: pd.DataFrame) -> str:
    """`n = 120 examples`, or the range where sites differ."""
    low, high = int(rows["n"].min()), int(rows["n"].max())
    return f"n = {low} examples" if low == high else f"n = {low} to {high} examples"


def hover_template(percent: str, *, resolved: bool, site: str) -> str:
    """What a pointer that rests on a site is told; plotly puts `hover_numbers` into it.

    Args:
        percent: of the intervals, such as `95 %`.
        resolved: whether the interval excludes 0.
        site: the name of the site, as a template.
    """
    unsure = "" if resolved else "<br><i>unresolved: the interval holds 0</i>"
    return (
        f"<b>{site}</b><br>change %{{customdata[0]}}<br>{percent} interval %{{customdata[1]}}<br>q %{{customdata[2]}}"
        f"<br>value %{{customdata[3]}}, baseline %{{customdata[4]}}{unsure}<extra></extra>"
    )


def hover_numbers(row: Mapping[str, Any], places: int) -> tuple[str, ...]:
    """The numbers of one site as text: change, interval, q, value, baseline."""
    return (
        style.signed(row["delta"], places),
        style.interval(row["ci_low"], row["ci_high"], places),
        style.probability(row["q_value"]),
        style.plain(row["value"], places),
        style.plain(row["baseline"], places),
    )
