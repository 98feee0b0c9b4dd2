"""Reading an impact table: its index columns, the rows worth showing, the name of a site."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.document import Cell
from tiny_ablation.errors import ResultsError
from tiny_ablation.models.labels import site_label
from tiny_ablation.stats.clusters import excludes_zero
from tiny_ablation.store.schema import INDEX, strongest_first


def index_columns(impact: pd.DataFrame) -> tuple[str, ...]:
    """The columns that say which site a row is about: those between `seed` and `metric`."""
    names = list(impact.columns)
    return tuple(names[names.index("seed") + 1 : names.index("metric")])


def where(rows: pd.DataFrame, mask: Any) -> pd.DataFrame:
    """The rows for which `mask` holds."""
    return rows.loc[np.asarray(mask, dtype=bool), :]


def of_metric(impact: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of `metric`, without those at scale 1, which are the baseline, unless there are no others.

    Returns:
        A copy with a fresh index and a column `resolved`: whether the interval excludes 0.

    Raises:
        ResultsError: the table has no such row.
    """
    rows = where(impact, impact["metric"] == metric)
    if "scale" in rows:
        others = where(rows, rows["scale"] != 1.0)
        rows = rows if others.empty else others
    if rows.empty:
        known = ", ".join(sorted(set(impact["metric"]))) or "none"
        raise ResultsError(
            f"the impact table has no effect on '{metric}' to show; set metrics.primary to a metric that is in it: {known}"
        )
    return rows.assign(resolved=excludes_zero(rows["ci_low"], rows["ci_high"])).reset_index(drop=True)


def scales(rows: pd.DataFrame) -> list[float | None]:
    """The scales in `rows`, the strongest first; `[None]` where there are none."""
    return [*strongest_first(rows["scale"].dropna() if "scale" in rows else ())] or [None]


def at_scale(rows: pd.DataFrame, scale: float | None) -> pd.DataFrame:
    """The rows of one scale; all of them where there are no scales."""
    return rows if scale is None else where(rows, rows["scale"] == scale)


def site_name(row: Mapping[str, Any]) -> str:
    """The name of a row's site, by those of its columns that are part of a name, with the direction of patching."""
    return label(row, [name for name in row if name in (INDEX - {"size"}) | {"direction"}])


def with_pair(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with one column `pair`, such as `L0H1 + L2H3`, for the four that name a pair of heads; any other row as it is."""
    if "layer_a" not in row:
        return dict(row)
    four = ("layer_a", "head_a", "layer_b", "head_b")
    rest = {name: value for name, value in row.items() if name not in four}
    return {"pair": site_label({name: row[name] for name in four}), **rest}


def label(row: Mapping[str, Any], index: Sequence[str], *, sentence: bool = False) -> str:
    """The name of a row's site (`site_label`); behind it the direction of patching, where `index` has that."""
    name = site_label({key: row[key] for key in index if key != "direction"}, sentence=sentence)
    return f"{name} ({row['direction']})" if "direction" in index else name


def index_cell(value: Any) -> Cell:
    """What names a site, in a table of a page: `3` or `0.5`, which sort by their size, or a name."""
    if isinstance(value, str):
        return Cell(value)
    return Cell(f"{value:g}" if isinstance(value, float) else value, float(value))


def search_text(row: Mapping[str, Any], index: Sequence[str]) -> str:
    """What the search field of a table finds a site by: its label, and its columns by name."""
    columns = (f"{name.replace('_', ' ')} {row[name]}" for name in index if name != "scale")
    return " ".join([label(row, index), *columns]).lower()


def examples(rows: pd.DataFrame) -> str:
    """`n = 120 examples`, or the range where sites differ."""
    low, high = min(rows["n"]), max(rows["n"])
    return f"n = {low} examples" if low == high else f"n = {low} to {high} examples"


def interval(row: Mapping[str, Any], places: int) -> str:
    """The interval of one site as text; where it is unbounded, in words."""
    shape = row.get("ci_shape")
    if isinstance(shape, str) and shape not in ("interval", "unknown"):
        return "any number" if shape == "everything" else shape
    return formats.interval(row["ci_low"], row["ci_high"], places)


def interval_of_chosen(row: Mapping[str, Any]) -> tuple[float, float]:
    """The interval of a site that stands where it stands because it is among the strongest: the one that allows for that."""
    ends = [formats.number(row.get(f"selected_{end}")) for end in ("low", "high")]
    if not all(map(math.isfinite, ends)):
        ends = [formats.number(row[f"ci_{end}"]) for end in ("low", "high")]
    return ends[0], ends[1]


def hover_template(percent: str) -> str:
    """What a pointer that rests on a site is told, with `{0}`, `{1}`, ... for the texts of `hover_numbers`."""
    return f"change {{0}}\n{percent} interval {{1}}\nq {{2}}\nvalue {{3}}, baseline {{4}}"


def hover_numbers(row: Mapping[str, Any], places: int) -> tuple[str, ...]:
    """The numbers of one site as text: change, interval, q, value, baseline."""
    return (
        formats.signed(row["delta"], places),
        interval(row, places),
        formats.probability(row["q_value"]),
        formats.plain(row["value"], places),
        formats.plain(row["baseline"], places),
    )
