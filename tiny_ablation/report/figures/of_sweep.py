"""The figures of a sweep: those of each comparison of its conditions, and how far ways of intervening agree."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tiny_ablation import formats
from tiny_ablation.document import Figure
from tiny_ablation.document.figures import Grid, GridPanel, Line, LinePanel, Lines, Overlap, Points, symmetric_limit
from tiny_ablation.report.figures.head_map import head_grid
from tiny_ablation.report.sweep_data import Comparison
from tiny_ablation.run import vocabulary

_ROWS, _COLUMNS = 30, 30  # sites in the matrix; groups of sites in the overlap
_HOVER = "change {0}\ninterval over {3} {1}\n{2}"
_UNSURE = "unresolved: the interval includes 0, or there is none"


def comparison_figures(data: Comparison) -> list[Figure]:
    """The figures that suit a comparison; their names tell comparisons apart."""
    stem = f"{data.table.removesuffix('_impact')}_{data.metric}_{data.model}"
    stem = re.sub(r"[^\w.-]", "-", stem)  # a model's name comes from a config
    return [replace(figure, name=f"{figure.name}_{stem}") for figure in _figures(data)]


def _figures(data: Comparison) -> Iterator[Figure]:
    several = len(data.labels) > 1
    yield Figure(
        "matrix",
        "The strongest, by condition",
        "A row is a site, a column a condition, the number its mean change. Bold rows are invariant; an outline says that "
        "the site is in that condition's top set; a grey number cannot be told from 0.",
        matrix(data),
    )
    if several:
        yield Figure(
            "overlap",
            "What do conditions share?",
            "Each column is a group of sites that are in the top sets of exactly the conditions with a filled dot; the bar "
            "says how many. The blue bar, if there is one, is what all conditions share.",
            overlap(data),
        )
    if data.index == ("layer", "head"):
        yield Figure(
            "heads",
            "Every head, by condition",
            "Layers down, heads across, a panel per condition, the same colours in all. Outlined heads are invariant; a grey "
            f"dot is a change that cannot be told from 0. {vocabulary.signs(data.metric)}",
            head_maps(data),
        )
    if data.index[:1] == ("layer",):
        yield Figure(
            "layers",
            "Where in the model?",
            "A line per condition, from the first layer to the last. Lines that rise and fall together depend on the same "
            "depth.",
            profiles(data),
        )
    if several and data.geometry:
        yield Figure(
            "agreement",
            "Do conditions rank alike?",
            "Rank correlation of the changes at all sites, for every two conditions: 1 is the same order, 0 unrelated, -1 "
            "reversed.",
            agreement(data),
        )
    if len(data.geometry.get("principal_components", ())) > 1:
        yield Figure(
            "conditions",
            "How far apart are the conditions?",
            "The two directions in which the conditions differ most. Near each other: they depend on the same sites.",
            condition_map(data),
        )


def title(what: str, data: Comparison) -> str:
    """What is shown, and of what: `What 3 conditions share: attention heads of smollm2_135m`."""
    n = len(data.labels)
    what = what.replace("{n}", f"{n} condition{'s' * (n > 1)}")
    return f"{what}: {vocabulary.noun(data.index, 2)} of {data.model}"


def intervals(data: Comparison) -> str:
    """What the intervals are over, in words."""
    return f"intervals over {' or '.join(dict.fromkeys(data.intervals))}, {data.examples} a run"


def head_maps(data: Comparison) -> Grid:
    """A map of every head for each condition, invariants outlined."""
    return head_grid(
        {
            label: [
                (layer, head, data.delta[i, j], data.resolved[i, j], _numbers(data, i, j))
                for j, (layer, head) in enumerate(data.sites)
            ]
            for i, label in enumerate(data.labels)
        },
        data.metric,
        [(int(data.sites[i][0]), int(data.sites[i][1])) for i in np.flatnonzero(data.kept)],
        title=title("Every head in {n}", data),
        note=f"mean change in {data.metric} over seeds; {intervals(data)}; outlined: invariant",
        name=f"heads-by-condition-{data.metric}-{data.model}",
        hover=_HOVER,
        unsure=_UNSURE,
    )


def _numbers(data: Comparison, i: int, j: int) -> tuple[str, ...]:
    """Change, interval and membership of one site in one condition."""
    places = formats.decimals(data.delta.ravel())
    said = "in the top set" if data.members[i, j] else "not in the top set"
    kept = "; invariant" if data.kept[j] else ""
    bounds = formats.interval(data.low[i, j], data.high[i, j], places)
    return formats.signed(data.delta[i, j], places), bounds, said + kept, data.intervals[i]


def matrix(data: Comparison) -> Grid:
    """The strongest sites down, conditions across; invariants first."""
    sites = data.strongest()[:_ROWS]
    n_kept = int(data.kept.sum())
    shown = f"the {len(sites)} strongest of {len(data.sites)}" if len(sites) < len(data.sites) else "all"
    first = f"bold: the {n_kept} invariant" if n_kept <= len(sites) else f"{n_kept} are invariant"
    resolved, marked = (found[:, sites].T for found in (data.resolved, data.members))
    hover = [[_numbers(data, i, j) for i in range(len(data.labels))] for j in sites]
    return Grid(
        name=f"matrix-{data.table}-{data.metric}-{data.model}",
        kind="Matrix of sites by condition",
        title=title("The strongest in {n}", data),
        note=f"{shown} {vocabulary.noun(data.index, 2)}, {first}; outlined: in the condition's top set; {intervals(data)}; "
        "grey: unresolved",
        rows=[data.label(j) for j in sites],
        columns=data.labels,
        axes=(vocabulary.noun(data.index, 1), "condition"),
        colour=vocabulary.change_label(data.metric),
        limit=symmetric_limit(data.delta.ravel()),
        panels=[GridPanel("", data.delta[:, sites].T, resolved, hover, marked)],
        places=min(3, formats.decimals(data.delta.ravel())) if len(data.labels) <= 8 else None,
        hover=_HOVER,
        unsure=_UNSURE,
        strong=frozenset(np.flatnonzero(data.kept[sites]).tolist()),
    )


def agreement(data: Comparison) -> Grid:
    """How alike the conditions rank their sites: Spearman's correlation of every two."""
    names = list(data.geometry["names"])
    distance = np.array([[np.nan if d is None else d for d in line] for line in data.geometry["distance"]], dtype=float)
    values = 1 - distance
    hover = [[(formats.signed(v, 2),) for v in line] for line in values]
    return Grid(
        name=f"agreement-{data.table}-{data.metric}-{data.model}",
        kind="Agreement of conditions",
        title=title("How alike {n} rank", data),
        note=f"Spearman's rank correlation of the changes in {data.metric} of {data.geometry['n_components']} "
        f"{vocabulary.noun(data.index, 2)}; 1: the same order, 0: unrelated, -1: reversed",
        rows=names,
        columns=names,
        axes=("condition", "condition"),
        colour="rank correlation",
        hover="rank correlation {0}",
        limit=1.0,
        panels=[GridPanel("", values, ~np.isnan(values), hover)],
        places=2 if len(names) <= 10 else None,
        square=True,
    )


def profiles(data: Comparison) -> Lines:
    """The effects by layer, a line per condition; of heads the mean size, since those of a layer may cancel."""
    layer, panels = np.array([site[0] for site in data.sites]), []
    if len(data.index) > 1 and "granularity" not in data.index:
        what = f"mean size of the change in {data.metric} ({vocabulary.metric_vocabulary(data.metric).unit})"
        note = f"mean over the {vocabulary.noun(data.index, 2)} of a layer, {data.examples} a run"
        layers = np.unique(layer)
        none = np.full(len(layers), np.nan)
        lines = []
        for label, row in zip(data.labels, np.abs(data.delta), strict=True):
            sizes = [row[(layer == at) & ~np.isnan(row)] for at in layers]
            means = np.array([found.mean() if len(found) else np.nan for found in sizes])
            lines.append(Line(label, layers, means, none, none))
        panels.append(LinePanel("", lines))
    else:
        what, note = vocabulary.change_label(data.metric), f"bands are {intervals(data)}"
        names = np.array([site[1] if len(site) > 1 else "" for site in data.sites])
        for name in dict.fromkeys(names.tolist()):
            at = np.flatnonzero(names == name)
            rows = enumerate(data.labels)
            lines = [Line(label, layer[at], data.delta[i, at], data.low[i, at], data.high[i, at]) for i, label in rows]
            panels.append(LinePanel(name, lines))
    return Lines(
        name=f"layers-{data.table}-{data.metric}-{data.model}",
        kind="Layer profiles",
        title=title("Effects by layer in {n}", data),
        note=note,
        x_title="layer",
        y_title=what,
        panels=panels,
        legend="condition",
        interval="interval",
    )


def overlap(data: Comparison) -> Overlap:
    """The sites in any top set, by exactly which conditions have them."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for site in range(len(data.sites)):
        members = tuple(np.flatnonzero(data.members[:, site]).tolist())
        if members:
            groups.setdefault(members, []).append(data.label(site))
    ordered = sorted(groups.items(), key=lambda group: (-len(group[0]), -len(group[1]), group[0]))
    hidden = f"; {len(ordered) - _COLUMNS} further groups are not shown" if len(ordered) > _COLUMNS else ""
    many = vocabulary.noun(data.index, 2)
    return Overlap(
        name=f"overlap-{data.table}-{data.metric}-{data.model}",
        title=title("What {n} share", data),
        note=f"top sets by change in {data.metric}, sizes in brackets; each of the {many} stands in one column{hidden}",
        conditions=[(label, int(row.sum())) for label, row in zip(data.labels, data.members, strict=True)],
        groups=ordered[:_COLUMNS],
        many=many,
    )


def condition_map(data: Comparison) -> Points:
    """Conditions on the two directions in which they differ most."""
    first, second = data.geometry["principal_components"][:2]
    names = list(data.geometry["names"])
    axis = "component {}: {:.0f} % of what differs"
    return Points(
        name=f"conditions-{data.table}-{data.metric}-{data.model}",
        kind="Map of conditions",
        title=title("How far apart {n} are", data),
        note=f"principal components of the changes in {data.metric}; conditions that lie together depend on the same "
        f"{vocabulary.noun(data.index, 2)} to the same extent",
        x_title=axis.format(1, 100 * first["share_of_variance"]),
        y_title=axis.format(2, 100 * second["share_of_variance"]),
        x=np.array([first["scores"][name] for name in names]),
        y=np.array([second["scores"][name] for name in names]),
        labels=names,
        shown=True,
    )


def robustness_figure(summary: Mapping[str, Any]) -> Figure:
    """The agreement of a sweep's conditions, off the content of `robustness.json`."""
    names, values = list(summary["conditions"]), robustness_matrix(summary)
    hover: list[list[tuple[str, ...]]] = [
        [("share with one sign" if j > i else "rank correlation", formats.plain(float(v), 2)) for j, v in enumerate(line)]
        for i, line in enumerate(values)
    ]
    drawn = Grid(
        name="robustness",
        kind="Robustness matrix",
        title=f"Robustness: {summary['model']} on {summary['dataset']}",
        note=f"{summary['metric']}, {summary['n_heads']} heads, n = {summary['n_examples']} examples. Below the diagonal: rank "
        f"correlation of all heads. Above: share of the {summary['k']} strongest of either with one sign. "
        f"{len(summary['holds'])} heads hold under all conditions",
        rows=names,
        columns=names,
        axes=("condition", "condition"),
        colour="below the diagonal: rank correlation; above: share with one sign",
        limit=1.0,
        panels=[GridPanel("", values, ~np.isnan(values), hover)],
        places=2 if len(names) <= 12 else None,
        square=True,
        hover="{0} {1}",
    )
    caption = (
        "Below the diagonal: rank correlation of all heads, 1 is the same order. Above it: the share of the strongest heads of "
        "either condition that have one sign in both."
    )
    return Figure("robustness", "How far do the ways of intervening agree?", caption, drawn)


def robustness_matrix(summary: Mapping[str, Any]) -> np.ndarray:
    """(conditions, conditions): rank correlation below the diagonal, sign agreement above, NaN on it."""
    names = summary["conditions"]
    values = np.full((len(names), len(names)), np.nan)
    for pair in summary["agreement"]:
        i, j = sorted((names.index(pair["condition_a"]), names.index(pair["condition_b"])))
        if i != j:
            values[j, i] = np.nan if pair["spearman"] is None else pair["spearman"]
            values[i, j] = pair["sign_agreement"]
    return values
