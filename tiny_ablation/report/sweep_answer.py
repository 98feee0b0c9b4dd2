"""What a sweep found, in words, with every number taken from its files.

A set that chance would give as well is never called conserved, and every p-value comes with its null.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tiny_ablation import formats
from tiny_ablation.config.schema import SetOperation
from tiny_ablation.data.text import listing
from tiny_ablation.document import Section
from tiny_ablation.report.sweep_data import Comparison, SweepData
from tiny_ablation.run import vocabulary
from tiny_ablation.sweep.analysis.invariants import KEPT

_NAMED = 5  # conditions in a sentence; of more it gives only the range


def sweep_answer(data: SweepData, comparison: Comparison, name: str = "") -> tuple[Section, tuple[str, str, str]]:
    """What the conditions of a comparison, which is called `name`, have in common: in words, and as a number of the page.

    The headline is firm where it names something that chance would not give.
    """
    entry, chances = comparison.entry, comparison.entry.get("chance") or []
    beyond = all(chance["beyond_chance"] for chance in chances) if chances else None
    text, notes = [*_effects(comparison), *_chance(entry, chances), *_alike(entry)], list(_notes(comparison))
    firm = int(entry["size"]) > 0 and beyond is not False
    said = Section(name, text, headline=_headline(data, comparison, beyond), firm=firm, items=notes)
    chance = {True: "more alike than chance", False: "no more alike than chance", None: ""}[beyond]
    return said, (f"invariant {name}", f"{entry['size']} of {entry['n_components']}", chance)


def _notes(comparison: Comparison) -> Iterator[str]:
    """The notes of a comparison; equal notes on several conditions are merged."""
    said: dict[str, list[str]] = {}
    for note in comparison.entry["notes"]:
        label = next((name for name in comparison.labels if note.startswith(f"{name}: ")), "")
        said.setdefault(note.removeprefix(f"{label}: ") if label else note, []).append(label)
    for note, labels in said.items():
        everywhere = len(labels) == len(comparison.labels) > 1
        of = "In every condition: " if everywhere else f"{listing(labels)}: " if all(labels) else ""
        yield f"{of}{note}."


def _headline(data: SweepData, comparison: Comparison, beyond: bool | None) -> str:
    size, n = int(comparison.entry["size"]), len(comparison.labels)
    many, overlap = vocabulary.noun(comparison.index, size), int(comparison.entry.get("overlap", size))
    names = listing(comparison.labels)
    if n < 2:
        return f"One condition only ({names}): nothing can be conserved between conditions."
    k = data.invariants.get("k")
    top = f"the {k} strongest" if isinstance(k, int) else f"those with q at most {str(k).removeprefix('q')}"
    op = SetOperation(data.invariants.get("op", "intersection"))
    every = "both conditions" if n == 2 else f"all {n} conditions"
    where = every if op is SetOperation.intersection else f"the conditions ({KEPT[op][0]})"
    if not size:
        them = "is, but its effect is" if overlap == 1 else "are, but their effects are"
        lacking = f"; {overlap} {them} unresolved" if overlap else ""
        return f"No {vocabulary.noun(comparison.index, 1)} with an effect is among {top} of {where}: {names}{lacking}."
    sites = [comparison.label(int(j)) for j in comparison.strongest()[:size]]
    verb = "is" if size == 1 else "are"
    doubt = "" if beyond in (True, None) else ", which is no more than chance would give"
    if all(each["size"] == comparison.entry["n_components"] for each in comparison.entry["conditions"]):
        doubt = ", since a top set of that size holds every one there is"
    return f"{size} {many} {verb} among {top} of {where}{doubt}: {listing(sites)}."


def _chance(entry: Mapping[str, Any], chances: list[Mapping[str, Any]]) -> Iterator[str]:
    for chance in chances:
        p = formats.probability(chance["p_value"])
        p = f"p {p}" if p.startswith("<") else f"p = {p}"
        method = "exactly" if chance["method"] == "exact" else "by random draws"
        yield (
            f"By chance the combined top sets would hold {formats.plain(chance['expected'], 2)} of {entry['n_components']} "
            f"({p} for a result {chance['alike_when']}, computed {method}), if {chance['null']}."
        )
    if not chances and len(entry["conditions"]) > 1:
        yield "There is nothing to compare the size with: the sets leave nothing to chance."


def _effects(comparison: Comparison) -> Iterator[str]:
    """The strongest invariant in every condition; where its interval includes 0, it says so and claims no effect."""
    if not comparison.kept.any():
        return
    site = int(comparison.strongest()[0])
    delta, unit = comparison.delta[:, site], vocabulary.metric_vocabulary(comparison.metric).unit
    places = formats.decimals(delta)
    resolved = comparison.resolved[:, site]
    told = [
        f"{formats.signed(v, places)} in {name}{'' if sure else ' (unresolved: its interval includes 0)'}"
        for v, name, sure in zip(delta.tolist(), comparison.labels, resolved.tolist(), strict=True)
    ]
    if len(told) > _NAMED:
        ends = [formats.signed(float(end), places) for end in (np.nanmin(delta), np.nanmax(delta))]
        told = [f"{ends[0]} to {ends[1]}{'' if resolved.all() else f' ({int(resolved.sum())} of {len(resolved)} resolved)'}"]
    same = "; its sign differs between conditions" if len(set((delta[resolved] > 0).tolist())) > 1 else ""
    what = f"{comparison.metric} ({unit})"
    does = f"changes {what} by" if resolved.any() else f"has a mean change in {what} of"
    yield f"{comparison.label(site)} {does} {listing(told)}{same}."


def _alike(entry: Mapping[str, Any]) -> Iterator[str]:
    """How often the invariants come back when examples are drawn anew, and how alike the whole rankings are."""
    stability = [member["stability"] for member in entry["members"] if member.get("stability") is not None]
    if stability and entry["size"] < entry["n_components"]:
        least = formats.percent(round(min(stability), 2))
        each = "It comes back in" if len(stability) == 1 else "Each comes back in at least"
        yield f"{each} {least} of draws of other examples."
    found = entry.get("agreement")
    if found and found["kendalls_w"] is not None:
        yield (
            f"Whole rankings: Kendall's W is {formats.plain(found['kendalls_w'], 2)} (1: all conditions rank alike, "
            f"{formats.plain(1 / len(found['conditions']), 2)} expected of unrelated ones), and the mean rank-biased overlap "
            f"of two conditions is {formats.plain(found['rbo_mean'], 2)} (1: equal, 0: nothing in common)."
        )
