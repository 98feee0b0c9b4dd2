"""The tables of a sweep's page: sites by condition, conditions, hypotheses, cells.

Each cell holds its number as shown and, for sorting, as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from tiny_ablation import formats
from tiny_ablation.report import tables
from tiny_ablation.report.sweep_data import Comparison, SweepData
from tiny_ablation.store.files import read_table

_ROWS = 3000  # of a table in the page


class Cell(NamedTuple):
    """One cell: what is shown, the number to sort by (None sorts by the text), and how it looks."""

    text: str
    number: float | None = None
    how: str = ""
    link: str = ""


class PageTable(NamedTuple):
    """One table of a page.

    Attributes:
        id: identifies it in the page.
        name: for those who do not see it.
        head: names of the columns.
        rows: `(find, strong, cells)`: what a search looks in, whether the row stands out, its cells.
        only: the label of the box that leaves the strong rows alone; empty for no search.
        total: how many rows there are in all.
    """

    id: str
    name: str
    head: list[str]
    rows: list[tuple[str, bool, list[Cell]]]
    only: str = ""
    total: int = 0


def sites(comparison: Comparison) -> PageTable:
    """Every site: in how many top sets it is, and its mean change in each condition; invariants first."""
    order = comparison.strongest()
    places = formats.decimals(comparison.delta.ravel())
    head = [
        *(name.replace("_", " ") for name in comparison.index),
        "invariant",
        "top sets",
        *comparison.labels,
    ]
    return PageTable(
        id=f"sites-{comparison.table}-{comparison.metric}-{comparison.model}",
        name="Every site by condition",
        head=head,
        rows=[_site(comparison, int(j), places) for j in order[:_ROWS]],
        only="only in a top set",
        total=len(order),
    )


def _site(data: Comparison, j: int, places: int) -> tuple[str, bool, list[Cell]]:
    row = dict(zip(data.index, data.sites[j], strict=True))
    find = tables.search_text(row, data.index)
    tops = int(data.members[:, j].sum())
    named = [Cell(str(value), None if isinstance(value, str) else float(value)) for value in row.values()]
    kept = Cell("yes" if data.kept[j] else "", float(data.kept[j]))
    return (
        find,
        tops > 0,
        [*named, kept, Cell(str(tops), tops), *_effects(data.delta[:, j], data.resolved[:, j], places)],
    )


def _effects(deltas: np.ndarray, resolved: np.ndarray, places: int) -> list[Cell]:
    """A cell for each condition, coloured where its interval excludes 0."""
    cells = []
    for delta, sure in zip(deltas.tolist(), resolved.tolist(), strict=True):
        how = "unsure" if not sure else "below" if delta < 0 else "above"
        cells.append(Cell(formats.signed(delta, places), delta, how))
    return cells


def robust_heads(data: SweepData) -> PageTable:
    """Every head under every way of intervening; those that hold under all come first."""
    rows = read_table(data.sweep.cross / "robustness_heads.parquet")
    names = data.robustness["conditions"]
    deltas, resolved = (
        rows[[f"{what}/{name}" for name in names]].to_numpy() for what in ("delta", "resolved")
    )
    holds = rows["holds"].to_numpy(dtype=bool)
    order = np.lexsort((-np.abs(deltas).min(axis=1), ~holds))
    places = formats.decimals(deltas.ravel())
    head = ["layer", "head", "holds", "resolved in", "top sets", *names]
    return PageTable(
        id="robust-heads",
        name="Every head by condition",
        head=head,
        rows=[
            _robust_head(rows.iloc[i].to_dict(), _effects(deltas[i], resolved[i], places))
            for i in order[:_ROWS].tolist()
        ],
        only="only heads that hold",
        total=len(rows),
    )


def _robust_head(row: Mapping[str, Any], changes: list[Cell]) -> tuple[str, bool, list[Cell]]:
    layer, head = int(row["layer"]), int(row["head"])
    counts = [Cell(str(int(row[name])), float(row[name])) for name in ("n_resolved", "n_top")]
    first = [
        Cell(str(layer), layer),
        Cell(str(head), head),
        Cell("yes" if row["holds"] else "", float(row["holds"])),
    ]
    return tables.search_text(row, ("layer", "head")), bool(row["holds"]), [*first, *counts, *changes]


def conditions(data: SweepData) -> PageTable:
    """Every condition with its seeds and baselines."""
    found = data.summary["conditions"]
    metrics = list(dict.fromkeys(name for each in found.values() for name in _shown(each)))
    head = ["condition", "seeds", "examples", *(f"baseline {name}" for name in metrics)]
    rows = [(name, True, _condition(name, each, metrics)) for name, each in found.items()]
    return PageTable("conditions", "Conditions", head, rows)


def _shown(condition: Mapping[str, Any]) -> list[str]:
    primary = condition.get("primary")
    names = ["accuracy", *([primary] if isinstance(primary, str) else primary or [])]
    return [name for name in names if name in condition.get("baseline", {})]


def _condition(name: str, found: Mapping[str, Any], metrics: Sequence[str]) -> list[Cell]:
    seeds, planned = len(found["seeds"]), found["n_planned"]
    said = str(seeds) if seeds == planned else f"{seeds} of {planned}"
    if found.get("replicates") is False:
        said += " (one measurement)"
    n = found.get("n_examples")
    examples = Cell("-" if n is None else str(n), float(n) if isinstance(n, int) else None)
    return [
        Cell(name),
        Cell(said, seeds),
        examples,
        *(_level(found["baseline"].get(metric)) for metric in metrics),
    ]


def _level(found: Mapping[str, Any] | None) -> Cell:
    """A mean over seeds with its interval over the examples of all of them."""
    if not found:
        return Cell("-", float("nan"))
    numbers = [found["mean"], found["ci_low"], found["ci_high"]]
    mean, low, high = (float("nan") if v is None else float(v) for v in numbers)
    places = formats.decimals([mean])
    bounds = formats.bounds(low, high, places)
    return Cell(
        f"{formats.plain(mean, places)} {bounds}" if bounds != "-" else formats.plain(mean, places),
        mean,
    )


def hypotheses(data: SweepData) -> PageTable:
    """Every declared hypothesis with its verdict."""
    rows = []
    for each in data.hypotheses.get("hypotheses", ()):
        p, q = (np.nan if each.get(key) is None else float(each[key]) for key in ("p_value", "q_value"))
        verdict = {True: "supported", False: "not supported", None: "not tested"}[each.get("supported")]
        notes = "; ".join(each.get("notes") or [])
        said = each.get("statement") or notes
        cells = [Cell(each["name"]), Cell(said, how="wide"), Cell(verdict), Cell(formats.probability(q), q),
                 Cell(formats.probability(p), p), Cell(each.get("null") or "-", how="wide")]  # fmt: skip
        rows.append((each["name"], bool(each.get("supported")), cells))
    return PageTable(
        "hypotheses", "Declared hypotheses", ["name", "claim", "verdict", "q", "p", "null"], rows
    )


def cells(data: SweepData) -> PageTable:
    """Every planned run, with what became of it."""
    rows, directories = [], {cell.job: cell.dir for cell in data.plan.cells}
    for each in data.summary["cells"]:
        page = f"{directories[each['job']]}/report.html"
        link = quote(page) if (data.sweep.path / page).is_file() else ""
        found = [Cell(str(each["job"]), each["job"]), Cell(each["condition"]), Cell(str(each["seed"]), each["seed"]),
                 Cell(each["status"]), Cell(each["dir"], link=link), Cell(each["error"] or "", how="wide")]  # fmt: skip
        rows.append((f"{each['condition']} {each['seed']} {each['status']}", each["status"] == "ok", found))
    return PageTable(
        "cells", "Runs of the sweep", ["job", "condition", "seed", "status", "directory", "error"], rows
    )
