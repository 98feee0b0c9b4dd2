"""What a run over circuits found, in words, small tables and curves; the same on the terminal, in the page and in the findings.

The faithfulness curves say how much of the behaviour circuits of growing size keep, and how much the model keeps without them.
Both panels share their axes: the share of heads in the circuit (logarithmic) and f, on which 1 is the whole model and 0 the
model with every head replaced. The area under the curve of the first panel is CPR, the area between it and 1 is CMD, both on a
linear axis of shares.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tiny_ablation.ablations.circuit.analysis import STANDS_OUT
from tiny_ablation.ablations.circuit.design import MARGIN
from tiny_ablation.ablations.circuit.published import TOLERANCE
from tiny_ablation.ablations.shared.head_ranking import SCORE
from tiny_ablation.document import Figure, Section, Table
from tiny_ablation.document.figures import Line, LinePanel, Lines
from tiny_ablation.formats import bounds, number, plain, probability
from tiny_ablation.models.labels import head_label
from tiny_ablation.run.result import Result

_PANELS = {"faithfulness": "Circuit kept, all other heads replaced", "left": "Circuit replaced, all other heads kept"}
_HEAD = ("share", "heads", "f", "interval", "random f", "percentile", "f without", "interval", "random", "percentile")


def sections(circuit: Mapping[str, Any] | None) -> list[Section]:
    """The smallest circuit that carries the behaviour, CPR, CMD, completeness and minimality of each ranking, and its circuits.

    `circuit` is that of `summary.json`; None where the run was stopped too early.
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
    tables = []
    for ranking, found in circuit["rankings"].items():
        caption = (
            f"Circuits of the {ranking} ranking: f of the circuit, and f of the model without it (0 is complete), each beside "
            "random circuits of the same size and layers. Percentiles: the share of random circuits with a smaller f, and with "
            "a larger f without."
        )
        tables.append(Table(caption, _HEAD, [[f"{p['fraction']:g}", str(p["size"]), *_cells(p)] for p in found["points"]]))
    shown = bool(circuit["defined"]) and bool(_carrying(circuit))
    return [
        Section("Circuits", [*text, *lines(circuit)], tables, headline(circuit), firm=shown),
        *_named(circuit),
        *_published(circuit.get("published")),
    ]


def headline(circuit: Mapping[str, Any]) -> str:
    """The smallest circuit that carries the behaviour, in a sentence."""
    if not circuit["defined"]:
        return f"Replacing every head changes {circuit['metric']} too little to tell what a circuit carries."
    good = _carrying(circuit)
    if not good:
        return (
            f"No circuit smaller than the model is shown to carry {circuit['metric']}: no f has an interval within "
            f"{1 - MARGIN:g} to {1 + MARGIN:g}."
        )
    ranking, point = min(good, key=lambda pair: pair[1]["size"])
    return (
        f"The first {point['size']} heads of the {ranking} ranking, of {circuit['n_heads']}, carry "
        f"{circuit['metric']} with all other heads replaced: f {_interval(point, 'faithfulness')}, within {MARGIN:g} of the "
        "whole model's 1."
    )


def _carrying(circuit: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(ranking, point) of each circuit smaller than the model that is shown to do what the model does, within the margin."""
    return [
        (ranking, point)
        for ranking, found in circuit["rankings"].items()
        for point in found["points"]
        if point["size"] < circuit["n_heads"] and point["carries"]
    ]


def lines(circuit: Mapping[str, Any]) -> list[str]:
    """CPR, CMD, completeness and minimality of each ranking, a paragraph each; none where f is not defined."""
    if not circuit["defined"]:
        return []
    out = []
    for ranking, found in circuit["rankings"].items():
        cpr, cmd = _area(found["cpr"]), _area(found["cmd"])
        out.append(
            f"{ranking.capitalize()} ranking: CPR (area under f, larger is better) {cpr}; CMD (area between f and 1, smaller "
            f"is better; without the bias of noise, so it may lie below 0) {cmd}. Intervals take the ranking as given."
        )
        point = next((point for by, point in _carrying(circuit) if by == ranking), None)
        if point is not None:
            out.append(
                f"Its smallest circuit that carries the behaviour has {point['size']} heads: f "
                f"{_interval(point, 'faithfulness')}, above {plain(point['sufficiency_percentile'], 0)} % of random circuits "
                f"of the same size and layers. Without these heads f is {_interval(point, 'left')} (completeness: 0 is "
                f"complete); they are more necessary than {plain(point['necessity_percentile'], 0)} % of the random ones."
            )
        out += _minimality(found["members"])
    return out


def _area(area: Mapping[str, Any]) -> str:
    value = f"{plain(area['value'], 3)} {bounds(area['ci_low'], area['ci_high'], 3)}"
    if not area["n_random"]:
        return value
    mean, place = plain(area["random_mean"], 3), plain(area["percentile"], 0)
    return f"{value}, random circuits {mean} on average, {place} % of them below"


def _minimality(members: Sequence[Mapping[str, Any]]) -> list[str]:
    if not members:
        return []
    n = len(members)
    if not members[0]["n_inflated"]:
        return [f"Minimality: there is no head outside the {n} tested members to compare them with."]
    needed = [head_label(m["layer"], m["head"]) for m in members if m["needed"]]
    names = f" ({', '.join(needed)})" if needed else ""
    return [
        f"Minimality: of its {n} first heads, {len(needed)} raise f (q at most 0.05 over the members) by more than "
        f"{STANDS_OUT:g} % of the {members[0]['n_inflated']} random heads that were put into this circuit{names}."
    ]


def _named(circuit: Mapping[str, Any]) -> list[Section]:
    """The circuits that are no beginning of a ranking, and whether the evaluated examples confirm those that were searched."""
    found = circuit.get("named") or []
    if not found or not circuit["defined"]:
        return []
    text = []
    for c in found:
        if c["circuit"].endswith("/minimal"):
            verdict = "which confirms it" if c["carries"] else f"not shown to lie within {MARGIN:g} of 1"
            text.append(
                f"Greedy search, {c['circuit'].removesuffix('/minimal')} ranking: {c['size']} heads ({c['heads']}), of which "
                f"none can be taken out with f within {MARGIN:g} of 1 on the examples of the search (f "
                f"{plain(c['searched_f'], 2)}). On the evaluated examples f is {_interval(c, 'faithfulness')}, {verdict}."
            )
    caption = (
        "searched f: on the examples that the search saw; all else on those evaluated here, which it did not see. Percentiles "
        "as for the circuits of the ranking."
    )
    rows = [[c["circuit"], str(c["size"]), plain(c["searched_f"], 3), *_cells(c)] for c in found]
    title = "Smallest circuits" if text else "The published circuit"
    return [Section(title, text, [Table(caption, ["circuit", "heads", "searched f", *_HEAD[2:]], rows)])]


def _published(found: Mapping[str, Any] | None) -> list[Section]:
    """How far rankings, smallest circuits and figures agree with what was published."""
    if not found:
        return []
    n = found["n_heads"]
    rankings = [
        [
            by,
            f"{r['found']} of {n}",
            plain(r["chance"], 1),
            probability(r["p_value"]),
            plain(r["auroc"], 3),
            "; ".join(f"{name} {hit} of {of}" for name, (hit, of) in r["classes"].items()),
        ]
        for by, r in found["rankings"].items()
    ]
    caption = (
        f"Published heads among the {n} first of each ranking, by chance, with a one-sided hypergeometric p-value and the "
        "AUROC of the published heads."
    )
    tables = [Table(caption, ["ranking", "found", "by chance", "p", "AUROC", "by class"], rankings)]
    figures = [
        [
            f["figure"],
            plain(f["published"], 3),
            plain(f.get("mean"), 3),
            bounds(f.get("ci_low"), f.get("ci_high"), 3),
            {True: "yes", False: "no", None: "not measured"}[f["agrees"]],
        ]
        for f in found["figures"]
    ]
    if figures:
        caption = f"Published figures beside those measured here; agrees: within {TOLERANCE:.0%} of the published one."
        tables.append(Table(caption, ["figure", "published", "measured", "interval", "agrees"], figures))
    text = [
        f"The circuit that {found['source']} publish for {found['model']}: {n} heads. The prompts are this package's own, and "
        "MLPs are never replaced."
    ]
    text += [
        f"The smallest circuit of the {by} ranking has {m['size']} heads, {m['shared']} of them published."
        for by, m in found["minimal"].items()
        if m["size"]
    ]
    by, best = max(found["rankings"].items(), key=lambda pair: pair[1]["found"])
    answer = (
        f"Of the {n} published heads {best['found']} are among the {n} first of the {by} ranking; chance gives "
        f"{best['chance']:.1f}."
    )
    return [Section(f"Agreement with the published circuit ({found['name']})", text, tables, answer, firm=True)]


def _cells(point: Mapping[str, Any]) -> list[str]:
    """What a circuit does and what is left without it, each with its interval, beside random ones."""
    cells = []
    for name, percentile in (("faithfulness", "sufficiency_percentile"), ("left", "necessity_percentile")):
        cells += [plain(point[name], 3), bounds(point[f"{name}_low"], point[f"{name}_high"], 3)]
        cells += [plain(point[f"random_{name}"], 3), plain(point[percentile], 0)]
    return cells


def _interval(point: Mapping[str, Any], name: str) -> str:
    return f"{plain(point[name], 2)} {bounds(point[f'{name}_low'], point[f'{name}_high'], 2)}"


def faithfulness(result: Result) -> Figure:
    """The curve of each ranking with its intervals, and that of its random circuits, which has none."""
    circuit = result.summary["circuit"]
    panels = []
    for key, heading in _PANELS.items():
        drawn = []
        for ranking, found in circuit["rankings"].items():
            points = [point for point in found["points"] if point["fraction"] > 0]  # those that a logarithmic axis can show
            x, y, low, high, random = (
                np.array([number(point[name]) for point in points])
                for name in ("fraction", key, f"{key}_low", f"{key}_high", f"random_{key}")
            )
            heads = [f"{point['size']} heads" for point in points]
            of_random = [f"{point['size']} random heads of the same layers" for point in points]
            none = np.full(len(x), np.nan)
            drawn.append(Line(f"{ranking} ranking", x, y, low, high, points=heads))
            drawn.append(Line(f"random, layers as {ranking}", x, random, none, none, grey=True, points=of_random))
        panels.append(LinePanel(heading, drawn))
    ends = [np.append(line.y, (0.0, 1.0)) for panel in panels for line in panel.lines]
    low, high = float(np.nanmin(np.concatenate(ends))), float(np.nanmax(np.concatenate(ends)))
    room = 0.12 * (high - low)
    lines = Lines(
        name="faithfulness",
        kind="Faithfulness curves",
        title=result.title,
        note=f"f on {circuit['metric']}: 1 is the whole model, 0 all {circuit['n_heads']} heads replaced "
        f"({circuit['replacement']}); n = {circuit['n_examples']} examples; bands are {result.percent} intervals; open marks: "
        "the interval includes 0",
        x_title="share of heads in the circuit",
        y_title="f: share of the behaviour",
        panels=panels,
        interval=f"{result.percent} interval",
        ticks=tuple(sorted({float(x) for panel in panels for line in panel.lines for x in line.x})),
        logarithmic=True,
        levels=(1.0,),
        span=(low - room, high + room),  # an interval far out is cut off rather than shown at any price
        signed=False,
    )
    return Figure(
        "faithfulness",
        "How much of the behaviour do circuits carry?",
        "Left: only the circuit works; f is 1 for the whole model and 0 with every head replaced. Right: only the circuit "
        "is replaced; a complete circuit leaves nothing. Grey: random circuits with as many heads in each layer.",
        lines,
    )
