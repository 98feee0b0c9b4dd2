"""What a run over circuits found, in words and small tables; the same on the terminal, in the page and in the findings."""

from collections.abc import Mapping, Sequence
from typing import Any

from tiny_ablation import formats
from tiny_ablation.ablations.circuit.analysis import STANDS_OUT
from tiny_ablation.ablations.circuit.design import MARGIN
from tiny_ablation.ablations.circuit.published import TOLERANCE
from tiny_ablation.ablations.shared.head_ranking import SCORE
from tiny_ablation.document import Section, Table
from tiny_ablation.models.labels import head_label


def sections(circuit: Mapping[str, Any] | None) -> list[Section]:
    """The smallest circuit that carries the behaviour, CPR, CMD, completeness and minimality of each ranking, and its circuits.

    Args:
        circuit: `circuit` of `summary.json`; None where the run was stopped too early.
    """
    if not circuit:
        return []
    ranked = circuit["ranked_by"]
    by = (
        f"Heads ranked by the file {ranked['run_id']}, which does not tell the examples that it was made from."
        if ranked["metric"] == SCORE
        else f"Heads ranked by run {ranked['run_id']} ({ranked['metric']}); {circuit['shared_examples']} of its examples "
        "are evaluated here."
    )
    text = [
        f"{by} Replaced by: {circuit['replacement']}. f is 1 for the whole model ({circuit['metric']} "
        f"{circuit['full']:.3f}) and 0 with all {circuit['n_heads']} heads replaced ({circuit['empty']:.3f})."
    ]
    tables = [_table(ranking, found["points"]) for ranking, found in circuit["rankings"].items()]
    shown = bool(circuit["defined"]) and _smallest(circuit) is not None
    return [
        Section("Circuits", [*text, *lines(circuit)], tables, headline(circuit), firm=shown),
        *_named(circuit),
        *published_sections(circuit.get("published")),
    ]


def _named(circuit: Mapping[str, Any]) -> list[Section]:
    """The circuits that are no beginning of a ranking, which are the smallest ones and a published one."""
    found = circuit.get("named") or []
    if not found or not circuit["defined"]:
        return []
    rows = [
        [
            c["circuit"],
            str(c["size"]),
            formats.plain(formats.number(c["searched_f"]), 3),
            *_cells(c, "faithfulness", "sufficiency_percentile"),
            *_cells(c, "left", "necessity_percentile"),
        ]
        for c in found
    ]
    text = [_minimal_line(c) for c in found if c["circuit"].endswith("/minimal")]
    caption = (
        "searched f: on the examples that the search saw; all else on those evaluated here, which it did not see. Percentiles "
        "as for the circuits of the ranking."
    )
    table = Table(caption, ["circuit", "heads", "searched f", *_HEAD[2:]], rows)
    return [Section("Smallest circuits", text, [table])] if text else [Section("The published circuit", (), [table])]


def _minimal_line(circuit: Mapping[str, Any]) -> str:
    """Whether the evaluated examples confirm a circuit that was searched on others."""
    ranking = circuit["circuit"].removesuffix("/minimal")
    searched = formats.plain(formats.number(circuit["searched_f"]), 2)
    verdict = "which confirms it" if circuit["carries"] else f"not shown to lie within {MARGIN:g} of 1"
    return (
        f"Greedy search, {ranking} ranking: {circuit['size']} heads ({circuit['heads']}), of which none can be taken out with "
        f"f within {MARGIN:g} of 1 on the examples of the search (f {searched}). On the evaluated examples f is "
        f"{_interval(circuit, 'faithfulness')}, {verdict}."
    )


def published_sections(found: Mapping[str, Any] | None) -> list[Section]:
    """How far rankings, smallest circuits and figures agree with what was published."""
    if not found:
        return []
    n = found["n_heads"]
    rankings = [
        [
            by,
            f"{r['found']} of {n}",
            formats.plain(r["chance"], 1),
            formats.probability(r["p_value"]),
            formats.plain(r["auroc"], 3),
            "; ".join(f"{name} {hit} of {of}" for name, (hit, of) in r["classes"].items()),
        ]
        for by, r in found["rankings"].items()
    ]
    figures = [
        [
            f["figure"],
            formats.plain(f["published"], 3),
            formats.plain(formats.number(f.get("mean")), 3),
            _bounds({"low": f.get("ci_low"), "high": f.get("ci_high")}, "low", "high"),
            {True: "yes", False: "no", None: "not measured"}[f["agrees"]],
        ]
        for f in found["figures"]
    ]
    tables = [
        Table(
            f"Published heads among the {n} first of each ranking, by chance, with a one-sided hypergeometric p-value and the "
            "AUROC of the published heads.",
            ["ranking", "found", "by chance", "p", "AUROC", "by class"],
            rankings,
        )
    ]
    if figures:
        caption = f"Published figures beside those measured here; agrees: within {TOLERANCE:.0%} of the published one."
        tables.append(Table(caption, ["figure", "published", "measured", "interval", "agrees"], figures))
    text = [
        f"The circuit that {found['source']} publish for {found['model']}: {n} heads. The prompts are this package's own, and "
        "MLPs are never replaced.",
        *(
            f"The smallest circuit of the {by} ranking has {m['size']} heads, {m['shared']} of them published."
            for by, m in found["minimal"].items()
            if m["size"]
        ),
    ]
    best = max(found["rankings"].items(), key=lambda pair: pair[1]["found"])
    headline = (
        f"Of the {n} published heads {best[1]['found']} are among the {n} first of the {best[0]} ranking; chance gives "
        f"{best[1]['chance']:.1f}."
    )
    return [Section(f"Agreement with the published circuit ({found['name']})", text, tables, headline, firm=True)]


def headline(circuit: Mapping[str, Any]) -> str:
    """The smallest circuit that carries the behaviour, in a sentence."""
    if not circuit["defined"]:
        return f"Replacing every head changes {circuit['metric']} too little to tell what a circuit carries."
    first = _smallest(circuit)
    if first is None:
        return (
            f"No circuit smaller than the model is shown to carry {circuit['metric']}: no f has an interval within "
            f"{1 - MARGIN:g} to {1 + MARGIN:g}."
        )
    ranking, point = first
    return (
        f"The first {point['size']} heads of the {ranking} ranking, of {circuit['n_heads']}, carry "
        f"{circuit['metric']} with all other heads replaced: f {_interval(point, 'faithfulness')}, within {MARGIN:g} of the "
        "whole model's 1."
    )


def lines(circuit: Mapping[str, Any]) -> list[str]:
    """CPR, CMD, completeness and minimality of each ranking, a paragraph each; none where f is not defined."""
    if not circuit["defined"]:
        return []
    return [line for name, found in circuit["rankings"].items() for line in _ranking_lines(circuit, name, found)]


def _smallest(circuit: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    good = [
        (ranking, point)
        for ranking, found in circuit["rankings"].items()
        for point in found["points"]
        if _carries(circuit, point)
    ]
    return min(good, key=lambda pair: pair[1]["size"], default=None)


def _carries(circuit: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    """Whether a circuit smaller than the model is shown to do what the model does, within the margin."""
    return point["size"] < circuit["n_heads"] and bool(point["carries"])


def _ranking_lines(circuit: Mapping[str, Any], ranking: str, found: Mapping[str, Any]) -> list[str]:
    cpr, cmd = (_area(found[name]) for name in ("cpr", "cmd"))
    lines = [
        f"{ranking.capitalize()} ranking: CPR (area under f, larger is better) {cpr}; CMD (area between f and 1, smaller is "
        f"better; without the bias of noise, so it may lie below 0) {cmd}. Intervals take the ranking as given."
    ]
    good = [point for point in found["points"] if _carries(circuit, point)]
    if good:
        point = good[0]
        lines.append(
            f"Its smallest circuit that carries the behaviour has {point['size']} heads: f "
            f"{_interval(point, 'faithfulness')}, above {_percent(point['sufficiency_percentile'])} of random circuits of "
            f"the same size and layers. Without these heads f is {_interval(point, 'left')} (completeness: 0 is complete); "
            f"they are more necessary than {_percent(point['necessity_percentile'])} of the random ones."
        )
    return [*lines, *_minimality(found["members"])]


def _area(area: Mapping[str, Any]) -> str:
    value = f"{formats.plain(formats.number(area['value']), 3)} {_bounds(area, 'ci_low', 'ci_high')}"
    if not area["n_random"]:
        return value
    mean, place = formats.plain(formats.number(area["random_mean"]), 3), _percent(area["percentile"])
    return f"{value}, random circuits {mean} on average, {place} of them below"


def _minimality(members: Sequence[Mapping[str, Any]]) -> list[str]:
    if not members:
        return []
    n = len(members)
    if not members[0]["n_inflated"]:
        return [f"Minimality: there is no head outside the {n} tested members to compare them with."]
    needed = [m for m in members if m["needed"]]
    names = ", ".join(head_label(m["layer"], m["head"]) for m in needed)
    return [
        f"Minimality: of its {n} first heads, {len(needed)} raise f (q at most 0.05 over the members) by more than "
        f"{STANDS_OUT:g} % of the {members[0]['n_inflated']} random heads that were put into this circuit"
        f"{f' ({names})' if needed else ''}."
    ]


_HEAD = ("share", "heads", "f", "interval", "random f", "percentile", "f without", "interval", "random", "percentile")


def _table(ranking: str, points: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [
            f"{p['fraction']:g}",
            str(p["size"]),
            *_cells(p, "faithfulness", "sufficiency_percentile"),
            *_cells(p, "left", "necessity_percentile"),
        ]
        for p in points
    ]
    caption = (
        f"Circuits of the {ranking} ranking: f of the circuit, and f of the model without it (0 is complete), each beside "
        "random circuits of the same size and layers. Percentiles: the share of random circuits with a smaller f, and with a "
        "larger f without."
    )
    return Table(caption, _HEAD, rows)


def _cells(point: Mapping[str, Any], name: str, percentile: str) -> list[str]:
    return [
        formats.plain(formats.number(point[name]), 3),
        _bounds(point, f"{name}_low", f"{name}_high"),
        formats.plain(formats.number(point[f"random_{name}"]), 3),
        formats.plain(formats.number(point[percentile]), 0),
    ]


def _interval(point: Mapping[str, Any], name: str) -> str:
    return f"{formats.plain(formats.number(point[name]), 2)} {_bounds(point, f'{name}_low', f'{name}_high', 2)}"


def _bounds(found: Mapping[str, Any], low: str, high: str, places: int = 3) -> str:
    return formats.bounds(formats.number(found[low]), formats.number(found[high]), places)


def _percent(value: float | None) -> str:
    return f"{formats.plain(formats.number(value), 0)} %"
