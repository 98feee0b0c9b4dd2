"""`metrics/summary.json`: the run in a few numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.config.schema import Split
from tiny_ablation.config.seeds import generator
from tiny_ablation.data.text import listing
from tiny_ablation.run.baseline import CHANCE, CRITERIA, PREFERENCE, by_template, is_weak
from tiny_ablation.run.confirm import confirm_warnings
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import COORDINATES
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.run.site_statistics import (
    N_SHOWN,
    NO_TEST_OF_RATES,
    baseline_intervals,
    interval_of_mean,
    no_test_of,
    of_answers,
)
from tiny_ablation.run.tables import RunTables, baseline_columns, effect_of_average_site
from tiny_ablation.stats.halves import top_set_agreement
from tiny_ablation.store.schema import EFFECT, SCHEMA_VERSION, TABLES, at_strongest, largest_first


def run_summary(
    prepared: PreparedRun, measured: Sequence[Measured], tables: RunTables, confirm: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The content of `summary.json`."""
    root, first = prepared.spec.settings.root, measured[0]
    primary = prepared.metrics[0].name
    columns, selection = baseline_columns(prepared, first), prepared.selection
    baseline = baseline_intervals(root, columns, first.groups)
    clean = next((m for m in measured if m.arm.run != "corrupt"), None)
    by_wording, preference = [], None
    if clean is not None:
        own = columns if clean is first else baseline_columns(prepared, clean)
        shown = ("accuracy", "preference", *PREFERENCE[:2])
        templates = [prepared.tokens[i].example.template for i in clean.examples]
        by_wording = by_template(templates, {name: own[name] for name in shown if name in own})
        if "preference" in own:
            only = {"preference": own["preference"]}
            preference = (baseline if clean is first else baseline_intervals(root, only, clean.groups))["preference"]
    return {
        "schema": SCHEMA_VERSION,
        "run_id": prepared.identity.run_id,
        "condition": prepared.spec.condition,
        "model": root.model.name,
        "dataset": root.dataset.name,
        "kind": root.ablation.kind,
        "primary": primary,
        "seed": root.seed,
        "seed_effect": prepared.spec.seed_effect,
        "split": root.dataset.split.value,
        "n_examples": len(first.examples),
        "n_planned": len(prepared.tokens),
        "skipped": list(prepared.skipped),
        "unscorable": {"count": len(selection.unscorable), "rows": dict(selection.unscorable)},
        "kept": dict(selection.kept),
        "n_groups": len(set(first.groups)),
        "confidence": root.stats.confidence,
        "intervention": {
            name: ", ".join(dict.fromkeys(tables.impact[column].astype(str))) for name, column in COORDINATES.items()
        },
        "notes": {name: note for m in measured for name, note in m.arm.notes.items()} | {**tables.analysis.notes},
        "accuracy_means": CRITERIA[root.metrics.span],
        "baseline": baseline,
        "baseline_of": first.arm.baseline,
        "baseline_by_template": by_wording,
        "metrics": {m.name: _mean_effect(prepared, first, m.name) for m in prepared.metrics},
        "top": top_sites(tables.impact, prepared.spec.table, primary),
        "null": "; ".join(dict.fromkeys(tables.impact.loc[tables.impact["metric"] == primary, "null"])),
        "fdr": root.stats.fdr.value,
        "family_size": tables.family_size,
        "resolution": tables.unresolvable,
        "stability": stability(prepared, measured, N_SHOWN),
        "confirm": confirm,
        **tables.analysis.summary,
        "warnings": [*_warnings(prepared, first, preference), *confirm_warnings(confirm), *tables.analysis.warnings],
    }


def top_sites(impact: pd.DataFrame, table: str, metric: str) -> list[dict[str, Any]]:
    """The sites with the largest absolute effect on `metric`; with several factors, at the strongest one."""
    rows = impact.loc[impact["metric"] == metric, :]
    if "scale" in rows:
        rows = rows.loc[at_strongest(rows["scale"]), :]
    told_apart = ["direction"] if len(set(rows["direction"])) > 1 else []
    columns = [*TABLES[table].index, *told_apart, *TABLES[table].extra, "value", "baseline", *EFFECT]
    return largest_first(rows)[columns].head(N_SHOWN).to_dict("records")


def _mean_effect(prepared: PreparedRun, measured: Measured, name: str) -> dict[str, float]:
    """The effect of the average site of the first arm: per example, the mean over all rows that were run."""
    found = interval_of_mean(
        effect_of_average_site(measured, name),
        measured.groups,
        prepared.spec.settings.root.stats,
        generator(prepared.spec.settings.root.seed, "bootstrap", f"mean effect {name}"),
        rate=no_test_of(name) == NO_TEST_OF_RATES,
        differences=of_answers(name),
    )
    return {"mean_delta": found.pop("mean"), **found}


def _warnings(prepared: PreparedRun, measured: Measured, preference: Mapping[str, float] | None) -> list[str]:
    """`preference` is how often the clean prompt's target is preferred to its foil; None where that was not measured."""
    root, selection, out = prepared.spec.settings.root, prepared.selection, []
    if preference and is_weak(preference):
        out.append(
            f"the model prefers the target to the foil on {preference['mean']:.0%} of the examples (interval "
            f"{preference['ci_low']:.0%} to {preference['ci_high']:.0%}), not clearly above the chance of {CHANCE:.0%}, so "
            "effects say little about how it does it"
        )
    out += selection.warnings
    out += [
        f"a fast path is off for {network.model.name if prepared.other else 'this model'}, so the run is slower and its "
        f"numbers are the same: {name} ({why})"
        for network in prepared.networks
        for name, why in network.switched_off.items()
    ]
    if selection.unscorable:
        rows = [f"{row} ({reason})" for row, reason in selection.unscorable.items()]
        out.append(f"{len(rows)} rows cannot be scored with the tokenizer and were left out: {listing(rows, separator='; ')}")
    if selection.kept:
        out.append(
            f"dataset.keep=correct: {selection.kept['n_kept']} of {selection.kept['n_before']} examples were kept, those where "
            f"{selection.kept['criterion']}; effects are about these alone"
        )
    if prepared.spec.seed_effect == "none":
        out.append(
            "the seed changes nothing in this run: all examples are used and the ablation is deterministic, so runs with other "
            "seeds are the same measurement, not replicates"
        )
    if len(set(measured.groups)) < 5:
        out.append("fewer than 5 groups of examples: intervals over groups are rough, or missing")
    if prepared.skipped:
        out.append(f"{len(prepared.skipped)} examples were left out: {listing(prepared.skipped, separator='; ')}")
    if len(measured.examples) < len(prepared.tokens):
        out.append(f"stopped early: {len(measured.examples)} of {len(prepared.tokens)} examples were finished")
    if root.dataset.split is Split.all:
        out.append(
            "sites were ranked on all examples, so the strongest are chosen and measured on the same data; "
            "dataset.split=dev stats.confirm=test keeps the two apart"
        )
    return out


N_SPLITS = 200
FAIR = 0.8
"""From this share of halves on, a site is called stable, and from this mean Jaccard overlap on the top set as a whole."""


def stability(prepared: PreparedRun, measured: Sequence[Measured], n_top: int) -> dict[str, Any] | None:
    """How well the strongest sites hold under resampling; None where sites cannot be ranked on common examples."""
    if not prepared.spec.ablation.ranked:
        return None
    first = next((m.strongest() for m in measured if m.arm.in_table), None)
    if first is None or len(first.arm.rows) < 2:
        return None
    name, n_sites = prepared.metrics[0].name, len(first.arm.rows)
    deltas = first.delta(name)
    if np.isnan(deltas).any() or len(set(first.groups)) < 2:
        return None
    k = min(n_top, n_sites // 2)
    draws = generator(prepared.spec.settings.root.seed, "bootstrap", "stability", name)
    found = top_set_agreement(deltas, first.groups, k, N_SPLITS, draws)
    order = np.argsort(-np.abs(deltas.mean(1)), kind="stable")[:k]
    return {
        "metric": name,
        "top": k,
        "of": n_sites,
        "n_splits": N_SPLITS,
        "jaccard": found.jaccard,
        "fair": FAIR,
        "stable": found.jaccard >= FAIR,
        "sites": [
            dict(first.arm.rows[i].key) | {"share": float(found.share[i]), "first": float(found.first[i])} for i in order
        ],
    }
