"""Reading off a run whether an effect holds for every wording: the same drawing for each template, with the same colours.

A cell is the mean change over the examples of one template. Templates have too few groups for intervals of their own, so what
is coloured are the sites whose interval over all examples excludes 0; the others stay grey, whatever their mean in one is.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tiny_ablation import formats
from tiny_ablation.data.text import natural_key
from tiny_ablation.document import Figure
from tiny_ablation.document.figures import Grid, GridPanel, Key, Line, LinePanel, Lines, symmetric_limit
from tiny_ablation.report.figures.head_map import head_grid
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.run.result import Result
from tiny_ablation.store.files import read_table
from tiny_ablation.store.schema import example_effects, largest_first

_SITES, _TEMPLATES = 12, 12
_FEWEST = 2  # examples of a template; with one each, a panel would show that example and not a wording
_GREY = "grey: the interval over all examples includes 0"


def figures(result: Result) -> Iterator[Figure]:
    """The figure of a run whose templates, several of them, have enough examples to be shown."""
    if result.several_directions or "layer" not in result.index[0] or not result.run.per_example.is_file():
        return
    if len(_chosen(result)) < 2:
        return
    every, signs = "drawn for each template", vocabulary.signs(result.metric)
    if result.index == ("layer", "head", "scale"):
        drawn: Grid | Lines = head_maps(result)
        caption = f"The map of all heads, {every}, with the same colours in all: means over its examples. Heads "
        caption += f"whose interval over all examples includes 0 stay grey. {signs}"
    elif result.index == ("layer", "granularity"):
        drawn = profiles(result)
        caption = f"The layer profile, {every} on the same axes: means over its examples. Open marks are unresolved: the "
        caption += "interval over all examples includes 0."
    else:
        drawn = others(result)
        caption = "The strongest sites down, templates across: means over the examples of a template. Sites whose interval "
        caption += f"over all examples includes 0 stay grey. {signs}"
    yield Figure("templates", "Does it hold for every wording?", caption, drawn)


def _chosen(result: Result) -> list[str]:
    """The templates with the most examples, by name."""
    told = result.summary.get("baseline_by_template") or ()
    enough = sorted((t for t in told if t["n"] >= _FEWEST), key=lambda t: -t["n"])
    return sorted((t["template"] for t in enough[:_TEMPLATES]), key=natural_key)


def _note(result: Result) -> str:
    shown, n = len(_chosen(result)), len(result.summary["baseline_by_template"])
    which = f"all {n} templates" if shown == n else f"the {shown} templates of {n} with the most examples"
    return f"{which}; means over the examples of each, without intervals of their own"


def _means(result: Result) -> pd.DataFrame:
    """A row per site and template at the strongest scale: the index columns, `template`, `mean`, `n`, `resolved`, `delta`."""
    rows = effects.at_scale(result.rows, effects.scales(result.rows)[0])
    index = [name for name in result.index if name in rows]
    examples = read_table(result.run.per_example)
    examples = effects.where(examples, examples["template"].isin(_chosen(result)))
    examples = examples.assign(change=example_effects(examples, result.metric))
    found = examples.groupby([*index, "template"], sort=False)["change"].agg(["mean", "count"]).reset_index()
    return found.rename(columns={"count": "n"}).merge(rows[[*index, "delta", "resolved"]], on=index)


def _names(found: pd.DataFrame) -> list[str]:
    return sorted(set(found["template"]), key=natural_key)


def _label(found: pd.DataFrame, name: str) -> str:
    """The heading of a template's panel: its name and how many examples it has."""
    n = effects.where(found, found["template"] == name)["n"].to_numpy()
    low, high = n.min(), n.max()
    count = f"(n = {low})" if low == high else f"(n = {low} to {high})"
    return f"{name} {count.replace(' ', formats.NO_BREAK)}"


def head_maps(result: Result) -> Grid:
    """A map of every head for each template."""
    found = _means(result)
    places = formats.decimals(found["mean"])
    panels = {}
    for name in _names(found):
        panels[_label(found, name)] = cells = []
        for row in effects.where(found, found["template"] == name).to_dict("records"):
            mean, of_all = (formats.signed(row[key], places) for key in ("mean", "delta"))
            cells.append((row["layer"], row["head"], row["mean"], row["resolved"], (mean, str(row["n"]), of_all)))
    ends = vocabulary.metric_vocabulary(result.metric)[2:]
    return head_grid(
        panels,
        result.metric,
        name=f"templates-{result.metric}",
        title=f"{result.title}, by template",
        note=f"{_note(result)}; {_GREY}",
        hover="mean change {0} over {1} examples of this template\nover all examples {2}",
        unsure="unresolved: the interval over all examples includes 0",
        key=Key(*ends, "over all examples, the interval excludes 0", "it includes 0: unresolved"),
    )


def profiles(result: Result) -> Lines:
    """A layer profile for each template, a line per granularity."""
    found = _means(result)
    panels = []
    for name in _names(found):
        mine, lines = effects.where(found, found["template"] == name).sort_values("layer", kind="stable"), []
        for granularity in dict.fromkeys(found["granularity"]):
            rows = effects.where(mine, mine["granularity"] == granularity)
            none = np.full(len(rows), np.nan)
            x, y = (rows[column].to_numpy(dtype=float) for column in ("layer", "mean"))
            lines.append(Line(str(granularity), x, y, none, none, ~rows["resolved"].to_numpy(dtype=bool)))
        panels.append(LinePanel(_label(found, name), lines))
    return Lines(
        name=f"templates-{result.metric}",
        kind="Layer profiles by template",
        title=f"{result.title}, by template",
        note=f"{_note(result)}; open marks: the {result.percent} interval over all examples includes 0",
        x_title="layer",
        y_title=vocabulary.change_label(result.metric),
        panels=panels,
        legend="component",
    )


def others(result: Result) -> Grid:
    """The strongest sites down, templates across: of pairs, positions and features, which no map of a template shows whole."""
    found = _means(result)
    index = [name for name in result.index if name in found]
    sites = found.drop_duplicates(index)
    sites = list(largest_first(sites).head(_SITES)[index].itertuples(index=False, name=None))
    names = _names(found)
    by_site = {what: found.pivot(index=index, columns="template", values=what) for what in ("mean", "n", "resolved")}
    mean, n, resolved = (table.loc[sites, names].to_numpy(dtype=float) for table in by_site.values())
    places = formats.decimals(mean.ravel())
    told = [[(formats.signed(m, places), f"{k:.0f}") for m, k in zip(*line, strict=True)] for line in zip(mean, n, strict=True)]
    return Grid(
        name=f"templates-{result.metric}",
        kind="Map of sites by template",
        title=f"{result.title}, by template",
        note=f"the {len(sites)} strongest; {_note(result)} (n = {np.nanmin(n):.0f} to {np.nanmax(n):.0f}); {_GREY}",
        rows=[effects.label(dict(zip(index, site, strict=True)), index) for site in sites],
        columns=names,
        axes=(vocabulary.noun(result.index, 1), "template"),
        colour=vocabulary.change_label(result.metric),
        limit=symmetric_limit(mean.ravel()),
        panels=[GridPanel("", mean, resolved == 1, told)],
        hover="mean change {0}\nn = {1}",
        unsure="unresolved: the interval over all examples includes 0",
    )
