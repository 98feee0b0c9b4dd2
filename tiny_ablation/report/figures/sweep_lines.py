"""Reading a sweep's layer profiles, the overlap of its top sets, and the map of its conditions."""

from collections.abc import Iterator

import numpy as np

from tiny_ablation.document.figures import Line, LinePanel, Lines, Overlap, Points
from tiny_ablation.report.figures.sweep_grids import intervals, title
from tiny_ablation.report.sweep_data import Comparison
from tiny_ablation.run import vocabulary

_COLUMNS = 30  # groups of sites


def profiles(data: Comparison) -> Lines:
    """The effects by layer, a line per condition; of heads the mean size, since those of a layer may cancel."""
    several = len(data.index) > 1 and "granularity" not in data.index
    unit = vocabulary.metric_vocabulary(data.metric).unit
    what = (
        f"mean size of the change in {data.metric} ({unit})"
        if several
        else vocabulary.change_label(data.metric)
    )
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
        return np.array(
            [found[~np.isnan(found)].mean() if (~np.isnan(found)).any() else np.nan for found in sizes]
        )

    yield LinePanel("", [
        Line(label, layers, mean(row), none, none) for label, row in zip(data.labels, data.delta, strict=True)
    ])  # fmt: skip


def _granularities(data: Comparison) -> Iterator[LinePanel]:
    layer = np.array([site[0] for site in data.sites])
    names = np.array([site[1] if len(site) > 1 else "" for site in data.sites])
    for name in dict.fromkeys(names.tolist()):
        at = np.flatnonzero(names == name)
        yield LinePanel(name, [
            Line(label, layer[at], data.delta[i, at], data.low[i, at], data.high[i, at])
            for i, label in enumerate(data.labels)
        ])  # fmt: skip


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
