"""The figures of a sweep: those of each comparison of its conditions, and how far ways of intervening agree."""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tiny_ablation.document import Figure
from tiny_ablation.document.figures import Line, LinePanel, Lines, Overlap, Points
from tiny_ablation.report.figures import sweep_grids
from tiny_ablation.report.figures.sweep_grids import intervals, title
from tiny_ablation.report.sweep_data import Comparison
from tiny_ablation.run import vocabulary


def comparison_figures(data: Comparison) -> list[Figure]:
    """The figures that suit a comparison; their names tell comparisons apart."""
    stem = f"{data.table.removesuffix('_impact')}_{data.metric}_{data.model}"
    stem = re.sub(r"[^\w.-]", "-", stem)  # a model's name comes from a config
    return [replace(figure, name=f"{figure.name}_{stem}") for figure in _figures(data)]


def _figures(data: Comparison) -> Iterator[Figure]:
    several = len(data.profiles) > 1
    yield Figure(
        "matrix",
        "The strongest, by condition",
        "A row is a site, a column a condition, the number its mean change. Bold rows are invariant; an outline says that "
        "the site is in that condition's top set; a grey number cannot be told from 0.",
        sweep_grids.matrix(data),
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
            sweep_grids.head_maps(data),
        )
    if data.index[:1] == ("layer",):
        yield Figure(
            "layers",
            "Where in the model?",
            "A line per condition, from the first layer to the last. Lines that rise and fall together depend on the "
            "same depth.",
            profiles(data),
        )
    if several and data.geometry:
        yield Figure(
            "agreement",
            "Do conditions rank alike?",
            "Rank correlation of the changes at all sites, for every two conditions: 1 is the same order, 0 unrelated, "
            "-1 reversed.",
            sweep_grids.agreement(data),
        )
    if len(data.geometry.get("principal_components", ())) > 1:
        yield Figure(
            "conditions",
            "How far apart are the conditions?",
            "The two directions in which the conditions differ most. Near each other: they depend on the same sites.",
            condition_map(data),
        )


_COLUMNS = 30  # groups of sites


def profiles(data: Comparison) -> Lines:
    """The effects by layer, a line per condition; of heads the mean size, since those of a layer may cancel."""
    several = len(data.index) > 1 and "granularity" not in data.index
    unit = vocabulary.metric_vocabulary(data.metric).unit
    what = f"mean size of the change in {data.metric} ({unit})" if several else vocabulary.change_label(data.metric)
    note = (
        f"mean over the {vocabulary.noun(data.index, 2)} of a layer, {data.examples} a run"
        if several
        else f"bands are {intervals(data)}"
    )
    return Lines(
        name=f"layers-{data.table}-{data.metric}-{data.model}",
        kind="Layer profiles",
        title=title("Effects by layer in {n}", data),
        note=note,
        x_title="layer",
        y_title=what,
        panels=list(_means(data) if several else _granularities(data)),
        legend="condition",
        interval="interval",
    )


def _means(data: Comparison) -> Iterator[LinePanel]:
    layer = np.array([site[0] for site in data.sites])
    layers = np.unique(layer)
    none = np.full(len(layers), np.nan)

    def mean(row: np.ndarray) -> np.ndarray:
        sizes = [np.abs(row[layer == at]) for at in layers]
        return np.array([found[~np.isnan(found)].mean() if (~np.isnan(found)).any() else np.nan for found in sizes])

    yield LinePanel(
        "", [Line(label, layers, mean(row), none, none) for label, row in zip(data.labels, data.delta, strict=True)]
    )


def _granularities(data: Comparison) -> Iterator[LinePanel]:
    layer = np.array([site[0] for site in data.sites])
    names = np.array([site[1] if len(site) > 1 else "" for site in data.sites])
    for name in dict.fromkeys(names.tolist()):
        at = np.flatnonzero(names == name)
        yield LinePanel(
            name,
            [
                Line(label, layer[at], data.delta[i, at], data.low[i, at], data.high[i, at])
                for i, label in enumerate(data.labels)
            ],
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
