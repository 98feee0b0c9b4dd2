"""The robustness matrix: how far two ways of intervening agree on which heads matter, and with which sign.

Conditions on both axes. Below the diagonal: rank correlation over all heads; above it: the share of the strongest heads of
either that have one sign in both.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiny_ablation import formats
from tiny_ablation.document import Figure
from tiny_ablation.document.figures import Grid, GridPanel


def robustness_figure(summary: Mapping[str, Any]) -> Figure:
    """The agreement of a sweep's conditions, off the content of `robustness.json`."""
    return Figure(
        "robustness",
        "How far do the ways of intervening agree?",
        "Below the diagonal: rank correlation of all heads, 1 is the same order. Above it: the share of the strongest heads of "
        "either condition that have one sign in both.",
        collect(summary),
    )


def collect(summary: Mapping[str, Any]) -> Grid:
    """What the figure draws."""
    names, values = list(summary["conditions"]), matrix(summary)
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


def matrix(summary: Mapping[str, Any]) -> np.ndarray:
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
        [("share with one sign" if j > i else "rank correlation", formats.plain(float(v), 2))
         for j, v in enumerate(line)]
        for i, line in enumerate(values)
    ]  # fmt: skip
