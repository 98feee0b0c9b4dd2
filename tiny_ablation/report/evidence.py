"""How far a run's strongest sites can be relied on: stability, held-out confirmation, and their place among controls.

The words are the same on the terminal and in the page.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from tiny_ablation import formats
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.document import Section, Table
from tiny_ablation.run import effects
from tiny_ablation.store.files import read_table
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.schema import INDEX


def sections(summary: Mapping[str, Any], controls: pd.DataFrame | None) -> list[Section]:
    """What a run shows besides its effects: what its ablation has to say, then how far its strongest sites can be relied on.

    In this module `summary` is the content of `metrics/summary.json`, and `controls` what `read_controls` gives.
    """
    return [*find_ablation(summary["kind"]).sections(summary), evidence(summary, controls)]


def read_controls(run: RunDir) -> pd.DataFrame | None:
    """The place of each head among controls; None where the run has none."""
    path = run.metrics / "site_controls.parquet"
    return read_table(path) if path.is_file() else None


def evidence(summary: Mapping[str, Any], controls: pd.DataFrame | None) -> Section:
    """How far the strongest sites can be relied on."""
    return Section("Evidence", evidence_lines(summary), evidence_tables(summary, controls))


def evidence_lines(summary: Mapping[str, Any]) -> list[str]:
    """What the summary says about stability and confirmation, a paragraph each; empty where it says nothing."""
    lines = []
    if found := summary.get("stability"):
        verdict = "stable" if found["stable"] else "not stable as a set: other examples would name others"
        top, fair = found["top"], found.get("fair", 0.8)
        said = (
            f"The {top} strongest of one half and those of the other share a Jaccard overlap of {found['jaccard']:.2f} on "
            f"average over {found['n_splits']} random halves ({verdict}; {fair:.2f} is a fair bar)."
        )
        if "sites" in found:  # not in a run of an earlier version
            steady = [f"{effects.site_name(row)} ({formats.percent(round(row['share'], 2))})" for row in stable_sites(found)]
            which = f"{', '.join(steady) if steady else 'none'} {'are' if len(steady) > 1 else 'is'}"
            said = (
                f"of the {top} strongest of {found['of']} sites, {which} among the {top} strongest in "
                f"at least {formats.percent(fair)} of random halves of the groups. {said}"
            )
        lines.append(f"Stability: {said}")
    if found := summary.get("confirm"):
        n = len(found["sites"])
        where = f"split {found['split']} ({found['n_examples']} examples in {found['n_groups']} groups)"
        if found["resolution"]:
            said = f"{found['n_same_sign']} of {n} keep their sign; no test: {found['resolution']}"
        else:
            tests = f"an interval without 0, and q at most 0.05 over these {found['family_size']} tests"
            said = f"{sum(_is_confirmed(row) is True for row in found['sites'])} of {n} are confirmed: same sign, {tests}"
        chosen = f"the {n} strongest sites of split {found['chosen_on']}"
        lines.append(f"Held-out: {chosen}, measured again on {where}: {said}.")
    return lines


def doubt(summary: Mapping[str, Any], site: Mapping[str, Any]) -> str:
    """What speaks against calling a site, given by its row, the strongest without reserve; empty for nothing.

    Held-out examples decide where they tested the site; otherwise whether other examples would name the same sites.
    """
    named = {name: site[name] for name in site if name in INDEX or name == "direction"}

    def of_site(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [row for row in rows if all(row.get(name, value) == value for name, value in named.items())]

    confirm, stability = summary.get("confirm") or {"sites": []}, summary.get("stability")
    mine = of_site(confirm["sites"])
    if mine and (found := _is_confirmed(mine[0])) is not None:
        return "" if found else f"split {confirm['split']} does not confirm it"
    if not stability or stability["stable"]:
        return ""
    if any(row["first"] >= stability["fair"] for row in of_site(stability.get("sites", ()))):
        return ""
    return f"which {stability['top']} sites are the strongest is not stable, so other examples may name another"


def stable_sites(stability: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of the strongest sites that nearly all halves of the groups name; none of a run of an earlier version."""
    return [row for row in stability.get("sites", ()) if row["share"] >= stability["fair"]]


def evidence_tables(summary: Mapping[str, Any], controls: pd.DataFrame | None) -> list[Table]:
    """The tables for the page: the place of the strongest heads among controls, and their effects on held-out examples."""
    found = []
    if controls is not None and len(controls) and summary["top"]:
        found.append(_controls(summary, controls))
    if summary.get("confirm") and summary["confirm"]["sites"]:
        found.append(_confirmed(summary["confirm"]))
    return found


def _is_confirmed(row: Mapping[str, Any]) -> bool | None:
    """Whether a site passed its test and its interval agrees; None where there is no test."""
    if row["confirmed"] is None:
        return None
    return bool(row["confirmed"]) and not formats.holds_zero(row["ci_low"], row["ci_high"])


def _confirmed(found: Mapping[str, Any]) -> Table:
    places = formats.decimals(formats.number(row["delta"]) for row in found["sites"])
    rows = []
    for row in found["sites"]:
        before, after = (formats.signed(row[key], places) for key in ("delta_chosen", "delta"))
        interval = formats.interval(row["ci_low"], row["ci_high"], places)
        confirmed = {None: "-", True: "yes", False: "no"}[_is_confirmed(row)]
        rows.append([effects.site_name(row), before, after, interval, formats.probability(row["q_value"]), confirmed])
    head = ["site", f"change on {found['chosen_on']}", f"change on {found['split']}", "interval", "q", "confirmed"]
    return Table("The chosen sites on examples that had no part in the choice.", head, rows)


def _controls(summary: Mapping[str, Any], controls: pd.DataFrame) -> Table:
    mine = controls.loc[controls["metric"] == summary["primary"], :]
    keys = ["layer", "head", "scale", *(["direction"] if "direction" in summary["top"][0] else [])]
    by_site = {tuple(row[key] for key in keys): row for row in mine.to_dict("records")}
    rows = []
    for top in summary["top"]:
        if row := by_site.get(tuple(top[key] for key in keys)):
            percentiles = [row[f"{name}_percentile"] for name in ("random", "layer", "matched")]
            numbers = [formats.plain(n, 2) for n in (top["effect_size"], row["norm"])]
            rows.append([effects.site_name(top), *numbers, *(formats.plain(p, 1) for p in percentiles)])
    caption = (
        "The strongest heads among controls: effect size (mean over groups, in their standard deviations), the length of what "
        "the head writes, and the share of other heads with a smaller effect, in percent: of all, of its layer, and of those "
        "whose output is nearest in length."
    )
    return Table(caption, ["head", "effect size", "norm", "all", "layer", "norm-matched"], rows)
