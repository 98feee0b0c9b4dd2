"""The columns of every table that a run writes, and the one check they pass before they are written.

Raise `SCHEMA_VERSION` when a column changes its name, type or meaning; adding a table does not need it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiny_ablation.errors import GuardError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike

SCHEMA_VERSION = 1

RUN_COLUMNS = ("run_id", "seed")
_TEST = ("delta", "ci_low", "ci_high", "p_value", "q_value")
COMMON = ("condition", "model", "dataset", "replacement", "positions", "direction", "n", "baseline", *_TEST, "null")
EXTRA = ("granularity", "component", "set")
# effect_size is standardised: the mean over the groups' mean effects, divided by their standard deviation. shrunken is the
# effect as it would likely be measured again, selected_low and selected_high its interval, had it been chosen as one of the
# strongest ten. p_equivalent and q_equivalent test that it is within stats.margin of 0. ci_shape says what ci_low and ci_high
# bound (`stats.ratios.Shape`).
LAST = ("effect_size", "shrunken", "selected_low", "selected_high", "p_equivalent", "q_equivalent", "ci_shape")
# What is said about an effect.
EFFECT = (*_TEST, *LAST)
EXAMPLE_FIRST = (*RUN_COLUMNS, "example_id", "group", "template")
# A run may measure one site in several ways, so these tell its rows apart.
EXAMPLE_HOW = ("replacement", "positions", "direction")
EXAMPLE_LAST = ("prediction", "prediction_baseline")
# What was written, with metrics of text.
EXAMPLE_TEXTS = ("text", "text_baseline")

_PAIR = ("delta_a", "delta_b", "interaction", "interaction_low", "interaction_high", "interaction_p", "interaction_q")
_FLOATS = ("scale", "value", "baseline", *(name for name in EFFECT if name != "ci_shape"), "control_mean", "percentile", *_PAIR)
# Every column that is not here holds text. Whole numbers are never missing; a missing float is NaN.
DTYPES = {
    **dict.fromkeys(("layer", "head", "layer_a", "head_a", "layer_b", "head_b", "feature", "size", "n"), "int32"),
    "seed": "int64",
    **dict.fromkeys(_FLOATS, "float64"),
}

# These make a row what it is, so they are never missing; of other text, a missing value means "does not
# apply".
REQUIRED = frozenset({"run_id", "metric", "condition", "model", "dataset", "example_id"})


@dataclass(frozen=True)
class Table:
    """One kind of impact table: a row per site and metric."""

    name: str  # the file's stem under `metrics/`
    nouns: tuple[str, str]  # what a site is called, one and several
    # the columns that name a site, in the order in which they stand in the file, with `scale` how strongly it was intervened on
    index: tuple[str, ...]
    extra: tuple[str, ...] = ()  # columns that only this table has; they stand last
    compared: bool = True  # whether a sweep compares its sites across conditions

    @property
    def site(self) -> tuple[str, ...]:
        """The columns that name a site, without how strongly it was intervened on."""
        return tuple(name for name in self.index if name != "scale")

    @property
    def first(self) -> tuple[str, ...]:
        """The columns that every reader may count on by position."""
        return (*RUN_COLUMNS, *self.index, "metric", "value")

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, in order."""
        return (*self.first, *COMMON, *(name for name in EXTRA if name not in self.first), *LAST, *self.extra)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that no two rows share."""
        described = ("condition", "replacement", "positions", "direction", *EXTRA)
        return (*RUN_COLUMNS, *self.index, "metric", *(name for name in described if name not in self.index))

    def example_columns(self, metrics: Sequence[str]) -> tuple[str, ...]:
        """The columns of `per_example.parquet`: a row per site and example, two columns per metric."""
        values = (column for metric in metrics for column in (metric, f"{metric}_baseline"))
        how = (name for name in EXAMPLE_HOW if name not in self.index)
        written = EXAMPLE_TEXTS if any(metric.startswith("text_") for metric in metrics) else ()
        return (*EXAMPLE_FIRST, *self.index, *how, *values, *EXAMPLE_LAST, *written)


TABLES = {
    table.name: table
    for table in (
        Table("head_impact", ("attention head", "attention heads"), ("layer", "head", "scale")),
        Table("layer_impact", ("component", "components"), ("layer", "granularity")),
        # delta is the effect of both together, delta_a and delta_b those of one alone; interaction is what is left.
        Table("pair_impact", ("pair of heads", "pairs of heads"), ("layer_a", "head_a", "layer_b", "head_b"), _PAIR),
        # A position is a name ("last", "subject_first") or a token's number, so it is text.
        Table("position_impact", ("site", "sites"), ("layer", "position", "granularity")),
        Table("feature_impact", ("feature", "features"), ("layer", "feature", "scale")),
        # control_mean is the mean effect of random sets of the same size and layers, percentile the set's place among them.
        Table(
            "set_impact",
            ("set of heads", "sets of heads"),
            ("set", "size"),
            ("heads", "control_mean", "percentile"),
            compared=False,
        ),
    )
}
INDEX = frozenset(name for table in TABLES.values() for name in table.index)
"""The columns that name a site in any table."""


def strongest_first(scales: Iterable[float]) -> list[float]:
    """The distinct factors, the strongest first: the farthest from 1 (no intervention), the smaller of two as far."""
    return sorted({float(scale) for scale in scales}, key=lambda scale: (-abs(scale - 1.0), scale))


def at_strongest(scale: "ArrayLike") -> "np.ndarray":
    """(n,) bool: the rows at the strongest of their factors; `strongest_first`."""
    import numpy as np

    return np.isin(scale, strongest_first(np.unique(scale))[:1])


def largest_first(rows: "pd.DataFrame", by: str = "delta") -> Any:
    """Rows by the size of their effect, or of another column; ties stay in their order, and what is missing comes last."""
    import numpy as np

    return rows.iloc[np.argsort(-rows[by].abs().to_numpy(), kind="stable")]


def example_effects(rows: "pd.DataFrame", metric: str) -> Any:
    """(n,) the effect on the metric in each row of a per-example table."""
    return rows[metric] - rows[f"{metric}_baseline"]


def conform(frame: "pd.DataFrame", table: str) -> "pd.DataFrame":
    """The rows of `frame` as the impact table `table`, a key of `TABLES`: columns in order, each of its type.

    Column order of `frame` is free, and an integer may stand where a float belongs.

    Raises:
        GuardError: a column is missing, unknown or of the wrong type, or two rows are of one site and metric.
    """
    spec = TABLES[table]
    result = _cast(frame, spec.columns, {}, table)
    repeated = result.duplicated(subset=list(spec.key))
    if repeated.any():
        row = result.loc[repeated, list(spec.key)].iloc[0].to_dict()
        raise GuardError(f"{table}: {int(repeated.sum())} rows repeat a site and metric, such as {row}.")
    return result


def conform_examples(frame: "pd.DataFrame", table: str, metrics: Sequence[str]) -> "pd.DataFrame":
    """The rows of `frame` as the per-example table that goes with the impact table `table`.

    A row per site and example, with columns `m` and `m_baseline` for every metric `m`, in the order of `metrics`.
    """
    columns = TABLES[table].example_columns(metrics)
    floats = {name: "float64" for metric in metrics for name in (metric, f"{metric}_baseline")}
    return _cast(frame, columns, floats, "per_example")


def _cast(frame: "pd.DataFrame", columns: Sequence[str], dtypes: dict[str, str], table: str) -> "pd.DataFrame":
    import pandas as pd

    if missing := [name for name in columns if name not in frame.columns]:
        raise GuardError(f"{table}: the column {missing[0]!r} is missing.")
    if unknown := [name for name in frame.columns if name not in columns]:
        raise GuardError(f"{table}: the column {unknown[0]!r} is not in the schema (store/schema.py).")
    types = {**DTYPES, **dtypes}
    cast = {name: _column(frame.loc[:, name], types.get(name, "str"), f"{table}.{name}") for name in columns}
    return pd.DataFrame(cast).reset_index(drop=True)


def _column(values: "pd.Series", dtype: str, where: str) -> "pd.Series":
    """`values` as `dtype`, refusing whatever would change a value."""
    import numpy as np

    missing, kind = values.isna(), values.dtype.kind
    if dtype == "str":
        # Distinct values only: a per-example table has millions of rows of a few texts.
        if wrong := [v for v in values.dropna().unique().tolist() if not isinstance(v, str)]:
            raise GuardError(f"{where} must hold text, not {wrong[0]!r}.")
        if where.rpartition(".")[2] in REQUIRED and missing.any():
            raise GuardError(f"{where} is missing in {int(missing.sum())} rows.")
        return values.astype("str")
    if dtype == "float64":
        if not missing.all() and kind not in "iuf":
            raise GuardError(f"{where} must hold numbers; it is {values.dtype}.")
        cast = values.astype("float64")
        if np.isinf(cast).any():
            raise GuardError(f"{where} holds an infinite value.")
        return cast
    if missing.any() or kind not in "iu":
        raise GuardError(f"{where} must hold whole numbers, none missing; it is {values.dtype}.")
    cast = values.astype(dtype)
    if not (cast == values).all():
        raise GuardError(f"{where} holds a number that {dtype} cannot.")
    return cast
