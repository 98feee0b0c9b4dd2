"""What a run over circuits found, in words and small tables; the same on the terminal, in the page and in the findings."""

from collections.abc import Mapping, Sequence
from typing import Any

from tiny_ablation.report.evidence import EvidenceTable
from tiny_ablation.report.figures import style

FAITHFUL = 0.8
"""The share of the behaviour from which on a circuit is spoken of as carrying it."""
STANDS_OUT = 95.0
"""A member is needed where f loses more with it than with this share of random heads, in percent."""


def circuit_headline(circuit: Mapping[str, Any]) -> str:
    """The smallest circuit that carries the behaviour, in a sentence."""
    if not circuit["defined"]:
        return f"Replacing every head changes {circuit['metric']} too little to tell what a circuit carries."
    first = _smallest(circuit)
    if first is None:
        return f"No circuit smaller than the model keeps {FAITHFUL:.0%} of {circuit['metric']}."
    ranking, point = first
    return (
        f"The {point['size']} first heads of the {ranking} ranking ({point['fraction']:.1%} of {circuit['n_heads']}) keep "
        f"{point['faithfulness']:.0%} of {circuit['metric']} with all other heads replaced."
    )


def circuit_lines(circuit: Mapping[str, Any] | None) -> list[str]:
    """CPR, CMD, completeness and minimality of each ranking, a paragraph each; empty without circuits that are defined."""
    if not circuit or not circuit["defined"]:
        return []
    return [
        line
        for ranking, found in circuit["rankings"].items()
        for line in _ranking_lines(circuit, ranking, found)
    ]


def circuit_tables(circuit: Mapping[str, Any] | None) -> list[EvidenceTable]:
    """For each ranking its circuits, a row a fraction."""
    if not circuit:
        return []
    return [_table(ranking, found["points"]) for ranking, found in circuit["rankings"].items()]


def _smallest(circuit: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    good = [
        (ranking, point)
        for ranking, found in circuit["rankings"].items()
        for point in found["points"]
        if _carries(circuit, point)
    ]
    return min(good, key=lambda pair: pair[1]["size"], default=None)


def _carries(circuit: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    """Whether a circuit smaller than the model may be said to carry the behaviour: by much, and told apart from nothing."""
    bounds = (style.number(point[f"faithfulness_{end}"]) for end in ("low", "high"))
    enough = style.number(point["faithfulness"]) >= FAITHFUL
    return point["size"] < circuit["n_heads"] and enough and not style.holds_zero(*bounds)


def _ranking_lines(circuit: Mapping[str, Any], ranking: str, found: Mapping[str, Any]) -> list[str]:
    cpr, cmd = (_area(found[name]) for name in ("cpr", "cmd"))
    lines = [
        f"{ranking.capitalize()} ranking: CPR (area under f, larger is better) {cpr}; CMD (area between f and 1, smaller is "
        f"better) {cmd}."
    ]  # fmt: skip
    good = [point for point in found["points"] if _carries(circuit, point)]
    if good:
        point = good[0]
        lines.append(
            f"Its smallest circuit with f of at least {FAITHFUL:g} has {point['size']} heads: f "
            f"{_interval(point, 'faithfulness')}, above {_percent(point['sufficiency_percentile'])} of random circuits of "
            f"the same size and layers. Without these heads {_interval(point, 'left')} is left (completeness: 0 is complete); "
            f"they are more necessary than {_percent(point['necessity_percentile'])} of the random ones."
        )
    return [*lines, *_minimality(found["members"])]


def _area(area: Mapping[str, Any]) -> str:
    value = f"{style.plain(style.number(area['value']), 3)} {_bounds(area, 'ci_low', 'ci_high')}"
    if not area["n_random"]:
        return value
    mean, place = style.plain(style.number(area["random_mean"]), 3), _percent(area["percentile"])
    return f"{value}, random circuits {mean} on average, {place} of them below"


def _minimality(members: Sequence[Mapping[str, Any]]) -> list[str]:
    if not members:
        return []
    n = len(members)
    if not members[0]["n_inflated"]:
        return [f"Minimality: there is no head outside the {n} tested members to compare them with."]
    needed = [m for m in members if m["percentile"] is not None and m["percentile"] >= STANDS_OUT]
    names = ", ".join(f"L{m['layer']}H{m['head']}" for m in needed)
    return [
        f"Minimality: of its {n} first heads, {len(needed)} change f more than at least {STANDS_OUT:g} % of the "
        f"{members[0]['n_inflated']} random heads that were put into this circuit{f' ({names})' if needed else ''}."
    ]


def _table(ranking: str, points: Sequence[Mapping[str, Any]]) -> EvidenceTable:
    head = [
        "share",
        "heads",
        "f",
        "interval",
        "random f",
        "percentile",
        "left without",
        "interval",
        "random",
        "percentile",
    ]
    rows = [
        [
            f"{p['fraction']:g}", str(p["size"]),
            *_cells(p, "faithfulness", "sufficiency_percentile"), *_cells(p, "left", "necessity_percentile"),
        ]
        for p in points
    ]  # fmt: skip
    caption = (
        f"Circuits of the {ranking} ranking: f of the circuit, and what is left without it, each beside random circuits of the "
        "same size and layers. Percentiles: the share of random circuits that keep less, and that leave more."
    )
    return EvidenceTable(caption, head, rows)


def _cells(point: Mapping[str, Any], name: str, percentile: str) -> list[str]:
    return [
        style.plain(style.number(point[name]), 3),
        _bounds(point, f"{name}_low", f"{name}_high"),
        style.plain(style.number(point[f"random_{name}"]), 3),
        style.plain(style.number(point[percentile]), 0),
    ]


def _interval(point: Mapping[str, Any], name: str) -> str:
    return f"{style.plain(style.number(point[name]), 2)} {_bounds(point, f'{name}_low', f'{name}_high', 2)}"


def _bounds(found: Mapping[str, Any], low: str, high: str, places: int = 3) -> str:
    return style.bounds(style.number(found[low]), style.number(found[high]), places)


def _percent(value: float | None) -> str:
    return f"{style.plain(style.number(value), 0)} %"
