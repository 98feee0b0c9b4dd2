"""Reading a sweep's maps: every head of every condition, the strongest sites by condition, and how alike the conditions are."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiny_ablation import formats
from tiny_ablation.document import Figure
from tiny_ablation.document.figures import Grid, GridPanel, symmetric_limit
from tiny_ablation.report.figures.head_map import head_grid
from tiny_ablation.report.sweep_data import Comparison
from tiny_ablation.run import vocabulary

ROWS = 30  # sites in the matrix
_HOVER = "change {0}\ninterval over {3} {1}\n{2}"
_UNSURE = "unresolved: the interval includes 0, or there is none"


def title(what: str, data: Comparison) -> str:
    """What is shown, and of what: `What 3 conditions share: attention heads of smollm2_135m`."""
    n = len(data.profiles)
    what = what.replace("{n}", f"{n} condition{'s' * (n > 1)}")
    return f"{what}: {vocabulary.noun(data.index, 2)} of {data.model}"


def intervals(data: Comparison) -> str:
    """What the intervals are over, in words."""
    over = dict.fromkeys(profile.interval for profile in data.profiles)
    return f"intervals over {' or '.join(over)}, {data.examples} a run"


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
    return formats.signed(data.delta[i, j], places), bounds, said + kept, data.profiles[i].interval


def matrix(data: Comparison) -> Grid:
    """The strongest sites down, conditions across; invariants first."""
    sites = data.strongest()[:ROWS]
    n_kept = int(data.kept.sum())
    shown = f"the {len(sites)} strongest of {len(data.sites)}" if len(sites) < len(data.sites) else "all"
    first = f"bold: the {n_kept} invariant" if n_kept <= len(sites) else f"{n_kept} are invariant"
    resolved, marked = (found[:, sites].T for found in (data.resolved, data.members))
    hover = [[_numbers(data, i, j) for i in range(len(data.profiles))] for j in sites]
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
        places=min(3, formats.decimals(data.delta.ravel())) if len(data.profiles) <= 8 else None,
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


def robustness_figure(summary: Mapping[str, Any]) -> Figure:
    """The agreement of a sweep's conditions, off the content of `robustness.json`."""
    return Figure(
        "robustness",
        "How far do the ways of intervening agree?",
        "Below the diagonal: rank correlation of all heads, 1 is the same order. Above it: the share of the strongest heads of "
        "either condition that have one sign in both.",
        _robustness_grid(summary),
    )


def _robustness_grid(summary: Mapping[str, Any]) -> Grid:
    """What the figure draws."""
    names, values = list(summary["conditions"]), robustness_matrix(summary)
    return Grid(
        name="robustness",
        kind="Robustness matrix",
        title=f"Robustness: {summary['model']} on {summary['dataset']}",
        note=_note(summary),
        rows=names,
        columns=names,
        axes=("condition", "condition"),
        colour="below the diagonal: rank correlation; above: share with one sign",
        limit=1.0,
        panels=[GridPanel("", values, ~np.isnan(values), _hover(values))],
        places=2 if len(names) <= 12 else None,
        square=True,
        hover="{0} {1}",
    )


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


def _note(summary: Mapping[str, Any]) -> str:
    return (
        f"{summary['metric']}, {summary['n_heads']} heads, n = {summary['n_examples']} examples. Below the diagonal: rank "
        f"correlation of all heads. Above: share of the {summary['k']} strongest of either with one sign. "
        f"{len(summary['holds'])} heads hold under all conditions"
    )


def _hover(values: np.ndarray) -> list[list[tuple[str, ...]]]:
    return [
        [("share with one sign" if j > i else "rank correlation", formats.plain(float(v), 2)) for j, v in enumerate(line)]
        for i, line in enumerate(values)
    ]
