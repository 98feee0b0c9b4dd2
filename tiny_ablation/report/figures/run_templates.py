"""Reading off a run whether an effect holds for every wording: the same drawing for each template, with the same colours.

A cell is the mean change over the examples of one template. Templates have too few groups for intervals of their own, so what
is coloured are the sites whose interval over all examples excludes 0; the others stay grey, whatever their mean in one is.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.data.text import natural_key
from tiny_ablation.models.labels import head_label
from tiny_ablation.report import tables, vocabulary
from tiny_ablation.report.figures import style
from tiny_ablation.report.figures.grid import Grid, GridPanel
from tiny_ablation.report.figures.head_grid import HeadGrid, Panel
from tiny_ablation.report.figures.lines import Line, LinePanel, Lines
from tiny_ablation.report.figures.source import RunSource
from tiny_ablation.store.files import read_table

_SITES, _TEMPLATES = 12, 12
_FEWEST = 2  # examples of a template; with one each, a panel would show that example and not a wording
NO_BREAK = "\N{NO-BREAK SPACE}"
_GREY = "grey: the interval over all examples holds 0"


def has_templates(source: RunSource) -> bool:
    """Whether there are several templates with enough examples to be shown."""
    if source.several_directions or "layer" not in source.index[0] or not source.run.per_example.is_file():
        return False
    return len(_chosen(source)) > 1


def _chosen(source: RunSource) -> list[str]:
    """The templates with the most examples, by name."""
    told = source.summary.get("baseline_by_template") or ()
    enough = sorted((t for t in told if t["n"] >= _FEWEST), key=lambda t: -t["n"])
    return sorted((t["template"] for t in enough[:_TEMPLATES]), key=natural_key)


def _note(source: RunSource) -> str:
    shown, n = len(_chosen(source)), len(source.summary["baseline_by_template"])
    which = f"all {n} templates" if shown == n else f"the {shown} templates of {n} with the most examples"
    return f"{which}; means over the examples of each, without intervals of their own"


def has_head_maps(source: RunSource) -> bool:
    """Whether each template can have a map of layers by heads."""
    return source.index == ("layer", "head", "scale") and has_templates(source)


def has_profiles(source: RunSource) -> bool:
    """Whether each template can have a layer profile."""
    return source.index == ("layer", "granularity") and has_templates(source)


def has_others(source: RunSource) -> bool:
    """Whether there are templates, and sites that are neither heads nor layers."""
    return has_templates(source) and not has_head_maps(source) and not has_profiles(source)


def _means(source: RunSource) -> pd.DataFrame:
    """A row per site and template at the strongest scale: the index columns, `template`, `mean`, `n`, `resolved`, `delta`."""
    rows = tables.effects(source.impact, source.metric)
    rows = tables.at_scale(rows, tables.scales(rows)[0])
    index = [name for name in source.index if name in rows]
    examples = read_table(source.run.per_example)
    examples = tables.where(examples, examples["template"].isin(_chosen(source)))
    examples = examples.assign(change=examples[source.metric] - examples[f"{source.metric}_baseline"])
    found = examples.groupby([*index, "template"], sort=False)["change"].agg(["mean", "count"]).reset_index()
    return found.rename(columns={"count": "n"}).merge(rows[[*index, "delta", "resolved"]], on=index)


def _names(found: pd.DataFrame) -> list[str]:
    return sorted(set(found["template"]), key=natural_key)


def _label(found: pd.DataFrame, name: str) -> str:
    """The heading of a template's panel: its name and how many examples it has."""
    n = found.loc[(found["template"] == name).to_numpy(), "n"]
    low, high = n.min(), n.max()
    count = f"(n = {low})" if low == high else f"(n = {low} to {high})"
    return f"{name} {count.replace(' ', NO_BREAK)}"


def head_maps(source: RunSource) -> HeadGrid:
    """A map of every head for each template."""
    found = _means(source)
    ends = [(min(found[name]), max(found[name])) for name in ("layer", "head")]
    layers, heads = (np.arange(low, high + 1) for low, high in ends)
    places = formats.decimals(found["mean"])
    return HeadGrid(
        metric=source.metric,
        title=f"{source.title}, by template",
        note=f"{_note(source)}; {_GREY}",
        percent=formats.percent(source.confidence),
        limit=style.symmetric_limit(found["mean"]),
        layers=layers,
        heads=heads,
        panels=[
            _head_panel(_label(found, name), part, layers, heads, places)
            for name in _names(found)
            for part in [found.loc[(found["template"] == name).to_numpy()]]
        ],
        name=f"templates-{source.metric}",
        hover=tuple(_hover(resolved=resolved) for resolved in (True, False)),
        marks=("over all examples, the interval excludes 0", "it holds 0: unresolved"),
    )


def _hover(*, resolved: bool) -> str:
    unsure = "" if resolved else "<br><i>unresolved: the interval over all examples holds 0</i>"
    return (
        f"<b>{head_label('%{y}', '%{x}')}</b>"
        "<br>mean change %{customdata[0]} over %{customdata[1]} examples of this template"
        f"<br>over all examples %{{customdata[2]}}{unsure}<extra></extra>"
    )


def _head_panel(name: str, part: pd.DataFrame, layers: np.ndarray, heads: np.ndarray, places: int) -> Panel:
    values = np.full((len(layers), len(heads)), np.nan)
    resolved = np.zeros(values.shape, dtype=bool)
    hover: list[list[tuple[str, ...]]] = [[() for _ in heads] for _ in layers]
    for row in part.to_dict("records"):
        at = row["layer"] - layers[0], row["head"] - heads[0]
        values[at], resolved[at] = row["mean"], row["resolved"]
        numbers = formats.signed(row["mean"], places), str(row["n"]), formats.signed(row["delta"], places)
        hover[at[0]][at[1]] = numbers
    return Panel(name, values, resolved, hover)


def profiles(source: RunSource) -> Lines:
    """A layer profile for each template, a line per granularity."""
    found = _means(source)
    return Lines(
        name=f"templates-{source.metric}",
        kind="Layer profiles by template",
        title=f"{source.title}, by template",
        note=f"{_note(source)}; open marks: the {formats.percent(source.confidence)} interval over all examples holds 0",
        x_title="layer",
        y_title=vocabulary.change_label(source.metric),
        panels=[LinePanel(_label(found, name), list(_lines(found, name))) for name in _names(found)],
        legend="component",
    )


def _lines(found: pd.DataFrame, template: str) -> Iterator[Line]:
    mine = found.loc[(found["template"] == template).to_numpy()].sort_values("layer", kind="stable")
    for granularity in dict.fromkeys(found["granularity"]):
        rows = mine.loc[(mine["granularity"] == granularity).to_numpy()]
        none = np.full(len(rows), np.nan)
        x, y = (rows[name].to_numpy(dtype=float) for name in ("layer", "mean"))
        yield Line(str(granularity), x, y, none, none, ~rows["resolved"].to_numpy(dtype=bool))


def others(source: RunSource) -> Grid:
    """The strongest sites down, templates across: of pairs, positions and features, which no map of a template shows whole."""
    found = _means(source)
    index = [name for name in source.index if name in found]
    sites = found.drop_duplicates(index)
    sites = list(tables.strongest(sites, _SITES)[index].itertuples(index=False, name=None))
    names = _names(found)
    by_site = {
        what: found.pivot(index=index, columns="template", values=what) for what in ("mean", "n", "resolved")
    }
    mean, n, resolved = (table.loc[sites, names].to_numpy(dtype=float) for table in by_site.values())
    return Grid(
        name=f"templates-{source.metric}",
        kind="Map of sites by template",
        title=f"{source.title}, by template",
        note=f"the {len(sites)} strongest; {_note(source)} (n = {np.nanmin(n):.0f} to {np.nanmax(n):.0f}); {_GREY}",
        rows=[tables.label(dict(zip(index, site, strict=True)), index) for site in sites],
        columns=names,
        axes=(vocabulary.noun(source.index, 1), "template"),
        colour=vocabulary.change_label(source.metric),
        limit=style.symmetric_limit(mean.ravel()),
        panels=[GridPanel("", mean, resolved == 1, _numbers(mean, n))],
    )  # fmt: skip


def _numbers(mean: np.ndarray, n: np.ndarray) -> list[list[str]]:
    places = formats.decimals(mean.ravel())
    return [
        [f"mean change {formats.signed(m, places)}<br>n = {k:.0f}" for m, k in zip(*line, strict=True)]
        for line in zip(mean, n, strict=True)
    ]
