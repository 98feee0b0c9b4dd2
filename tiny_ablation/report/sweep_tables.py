"""The tables of a sweep's page: sites by condition, conditions, hypotheses, cells."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from tiny_ablation import formats
from tiny_ablation.document import Cell, Table
from tiny_ablation.report.html import ROWS
from tiny_ablation.report.sweep_data import Comparison, SweepData
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.store.files import read_json, read_table


def sites(comparison: Comparison) -> Table:
    """Every site: in how many top sets it is, and its mean change in each condition; invariants first."""
    order = comparison.strongest()
    shown, places = order[:ROWS].tolist(), formats.decimals(comparison.delta.ravel())
    sites = [dict(zip(comparison.index, comparison.sites[j], strict=True)) for j in shown]
    tops = comparison.members.sum(0)
    rest = f" The {len(shown)} strongest of {len(order)} rows; the rest stand in artifacts/cross_condition/."
    some = rest if len(shown) < len(order) else ""
    unit, many = vocabulary.metric_vocabulary(comparison.metric).unit, vocabulary.noun(comparison.index, 2)
    return Table(
        f"Mean change in {comparison.metric} ({unit}). {vocabulary.signs(comparison.metric)} Grey numbers cannot be told from "
        f"0.{some}",
        [*(name.replace("_", " ") for name in comparison.index), "invariant", "top sets", *comparison.labels],
        [
            [
                *map(effects.index_cell, site.values()),
                Cell("yes" if comparison.kept[j] else "", float(comparison.kept[j])),
                Cell(tops[j], float(tops[j])),
                *_effects(comparison.delta[:, j], comparison.resolved[:, j], places),
            ]
            for j, site in zip(shown, sites, strict=True)
        ],
        title=f"All {many}, by condition",
        id=f"sites-{comparison.table}-{comparison.metric}-{comparison.model}",
        strong=[bool(tops[j]) for j in shown],
        find=[effects.search_text(site, comparison.index) for site in sites],
        only="only in a top set",
    )


def _effects(deltas: np.ndarray, resolved: np.ndarray, places: int) -> list[Cell]:
    """A cell for each condition, coloured where its interval excludes 0."""
    cells = []
    for delta, sure in zip(deltas.tolist(), resolved.tolist(), strict=True):
        how = "unsure" if not sure else "below" if delta < 0 else "above"
        cells.append(Cell(formats.signed(delta, places), delta, how))
    return cells


def robust_heads(data: SweepData) -> Table:
    """Every head under every way of intervening; heads that hold under all come first."""
    rows = read_table(data.sweep.cross / "robustness_heads.parquet")
    names = data.robustness["conditions"]
    deltas, resolved = (rows[[f"{what}/{name}" for name in names]].to_numpy() for what in ("delta", "resolved"))
    holds = rows["holds"].to_numpy(dtype=bool)
    order = np.lexsort((-np.abs(deltas).min(axis=1), ~holds))
    places = formats.decimals(deltas.ravel())
    shown = rows.iloc[order[:ROWS]].to_dict("records")
    found, unit = data.robustness, vocabulary.metric_vocabulary(data.robustness["metric"]).unit
    return Table(
        f"Mean change in {found['metric']} ({unit}) on the {found['n_examples']} examples that all conditions share. A head "
        "holds where all changes have one sign and every interval excludes 0. Grey numbers cannot be told from 0.",
        ["layer", "head", "holds", "resolved in", "top sets", *names],
        [
            [
                *(effects.index_cell(row[name]) for name in ("layer", "head")),
                Cell("yes" if row["holds"] else "", float(row["holds"])),
                *(Cell(int(row[name]), float(row[name])) for name in ("n_resolved", "n_top")),
                *_effects(deltas[i], resolved[i], places),
            ]
            for i, row in zip(order.tolist(), shown, strict=False)
        ],
        title="All heads, by way of intervening",
        id="robust-heads",
        strong=[bool(row["holds"]) for row in shown],
        find=[effects.search_text(row, ("layer", "head")) for row in shown],
        only="only heads that hold",
    )


def conditions(data: SweepData) -> Table:
    """Every condition with its seeds and baselines."""
    metrics: dict[str, None] = {}
    for found in data.summary["conditions"].values():
        primary = found.get("primary")
        names = ["accuracy", *([primary] if isinstance(primary, str) else primary or [])]
        metrics |= dict.fromkeys(name for name in names if name in found.get("baseline", {}))
    rows = []
    for name, found in data.summary["conditions"].items():
        seeds, planned = len(found["seeds"]), found["n_planned"]
        said = str(seeds) if seeds == planned else f"{seeds} of {planned}"
        said += " (one measurement)" if found.get("replicates") is False else ""
        n = found.get("n_examples")
        examples = Cell("-" if n is None else str(n), float(n) if isinstance(n, int) else None)
        levels = [_level(found["baseline"].get(metric)) for metric in metrics]
        rows.append([Cell(name), Cell(said, seeds), examples, *levels])
    head = ["condition", "seeds", "examples", *(f"baseline {name}" for name in metrics)]
    interval = str(data.summary["interval"]).replace("; null where", "; - where")
    return Table(f"{interval[:1].upper()}{interval[1:]}.", head, rows, id="conditions")


def run_warnings(data: SweepData) -> Table:
    """What the runs of each condition warn of."""
    rows = [
        [name, Cell(text, how="wide")]
        for name, found in data.summary["conditions"].items()
        for text in found.get("warnings") or ()
    ]
    return Table("", ["condition", "warning"], rows, title="What the runs warn of")


def six(data: SweepData) -> Table:
    """The intervention as the finished runs describe it: each part with its values over runs."""
    found: dict[str, dict[str, None]] = {}
    for summary in of_runs(data, "metrics/summary.json"):
        for name, value in summary.get("intervention", {}).items():
            found.setdefault(name, {})[str(value)] = None
    rows = [[name, Cell("; ".join(values), how="wide")] for name, values in found.items()]
    return Table("The interventions, as the six-tuple of Miller et al. (2024).", ["part", "value"], rows)


def of_runs(data: SweepData, name: str) -> Iterator[Mapping[str, Any]]:
    """The content of a JSON file of every finished run that has it."""
    for run in data.finished:
        if (run.path / name).is_file():
            yield read_json(run.path / name)


def _level(found: Mapping[str, Any] | None) -> Cell:
    """A mean over seeds with its interval over the examples of all of them."""
    if not found:
        return Cell("-", float("nan"))
    mean, low, high = (formats.number(found[key]) for key in ("mean", "ci_low", "ci_high"))
    places = formats.decimals([mean])
    bounds = formats.bounds(low, high, places)
    return Cell(f"{formats.plain(mean, places)} {bounds}" if bounds != "-" else formats.plain(mean, places), mean)


def hypotheses(data: SweepData) -> Table:
    """Every declared hypothesis with its verdict."""
    rows, strong = [], []
    for each in data.hypotheses.get("hypotheses", ()):
        p, q = (formats.number(each.get(key)) for key in ("p_value", "q_value"))
        verdict = {True: "supported", False: "not supported", None: "not tested"}[each.get("supported")]
        notes = "; ".join(each.get("notes") or [])
        said = each.get("statement") or notes
        tests = [Cell(formats.probability(value), value) for value in (q, p)]
        null = Cell(each.get("null") or "-", how="wide")
        rows.append([Cell(each["name"]), Cell(said, how="wide"), Cell(verdict), *tests, null])
        strong.append(bool(each.get("supported")))
    said = data.hypotheses
    caption = f"A hypothesis is called supported where q is at most {said['level']}; q: "
    caption += f"{said['correction']} ({said['family_size']} tests)."
    head = ["name", "claim", "verdict", "q", "p", "null"]
    return Table(caption, head, rows, id="hypotheses", strong=strong)


def cells(data: SweepData) -> Table:
    """Every planned run, with what became of it."""
    rows, strong = [], []
    directories = {cell.job: cell.dir for cell in data.plan.cells}
    for each in data.summary["cells"]:
        page = f"{directories[each['job']]}/report.html"
        link = quote(page) if (data.sweep.path / page).is_file() else ""
        job, seed = (Cell(str(each[key]), each[key]) for key in ("job", "seed"))
        place, error = Cell(each["dir"], link=link), Cell(each["error"] or "", how="wide")
        rows.append([job, Cell(each["condition"]), seed, Cell(each["status"]), place, error])
        strong.append(each["status"] == "ok")
    head = ["job", "condition", "seed", "status", "directory", "error"]
    return Table("", head, rows, title="Every run", id="cells", strong=strong)
