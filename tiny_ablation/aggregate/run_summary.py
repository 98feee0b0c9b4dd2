"""`metrics/summary.json`: the run in a few numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.aggregate.run_tables import NULL, RunTables, groups_of
from tiny_ablation.config.schema import Split
from tiny_ablation.config.seeds import generator
from tiny_ablation.interventions.measure import Measured
from tiny_ablation.interventions.prepare import Prepared
from tiny_ablation.results.schema import SCHEMA_VERSION, TABLES
from tiny_ablation.stats.bootstrap import cluster_bootstrap_means

N_TOP = 10
# Below this share of right answers a behaviour is hardly there, and removing parts of it says little.
WEAK_ACCURACY = 0.2


def run_summary(prepared: Prepared, measured: Sequence[Measured], tables: RunTables) -> dict[str, Any]:
    """The content of `summary.json`."""
    root, first = prepared.light.settings.root, measured[0]
    primary = prepared.metrics[0].name
    baseline = _baseline(prepared, first)
    return {
        "schema": SCHEMA_VERSION,
        "run_id": prepared.identity.run_id,
        "condition": prepared.light.condition,
        "model": root.model.name,
        "dataset": root.dataset.name,
        "kind": root.ablation.kind,
        "primary": primary,
        "seed": root.seed,
        "seed_effect": prepared.light.seed_effect,
        "split": root.dataset.split.value,
        "n_examples": len(first.examples),
        "n_planned": len(prepared.tokens),
        "n_groups": len(set(groups_of(prepared, first))),
        "confidence": root.stats.confidence,
        "intervention": _six(tables.impact),
        "baseline": baseline,
        "metrics": {m.name: _mean_effect(prepared, measured, m.name) for m in prepared.metrics},
        "top": top_sites(tables.impact, prepared.light.kind.table, primary),
        "null": NULL,
        "family_size": tables.family_size,
        "resolution": tables.unresolvable,
        "warnings": _warnings(prepared, first, baseline),
    }


def top_sites(impact: pd.DataFrame, table: str, metric: str, n: int = N_TOP) -> list[dict[str, Any]]:
    """The sites with the largest absolute effect on `metric`; with several factors, at the strongest one."""
    rows = impact[impact["metric"] == metric]
    if "scale" in rows:
        farthest = (rows["scale"] - 1).abs().max()
        rows = rows[(rows["scale"] - 1).abs() == farthest]
    order = np.argsort(-rows["delta"].abs().to_numpy(), kind="stable")[:n]
    columns = [*TABLES[table].index, "value", "baseline", "delta", "ci_low", "ci_high", "p_value", "q_value"]
    return rows.iloc[order][columns].to_dict("records")


def _baseline(prepared: Prepared, measured: Measured) -> dict[str, dict[str, float]]:
    target = np.array([prepared.tokens[i].target_ids[0] for i in measured.examples])
    values = {"accuracy": (measured.top1_baseline == target).astype(float), **measured.baseline}
    return {name: _interval(prepared, measured, f"baseline {name}", value, "mean") for name, value in values.items()}


def _mean_effect(prepared: Prepared, measured: Sequence[Measured], name: str) -> dict[str, float]:
    """The effect of the average site: per example, the mean over all rows that were run."""
    ran = [[row.intervention is not None for row in m.leg.rows] for m in measured]
    per_example = np.mean(
        [(m.values[name] - m.baseline[name])[keep].mean(0) for m, keep in zip(measured, ran, strict=True) if any(keep)], axis=0
    )
    return _interval(prepared, measured[0], f"mean effect {name}", per_example, "mean_delta")


def _interval(prepared: Prepared, measured: Measured, label: str, values: Any, key: str) -> dict[str, float]:
    root = prepared.light.settings.root
    draws = generator(root.seed, "bootstrap", label)
    groups = groups_of(prepared, measured)
    low, high = cluster_bootstrap_means(values[None], groups, root.stats.n_boot, root.stats.confidence, draws)
    return {key: float(values.mean()), "ci_low": float(low[0]), "ci_high": float(high[0])}


def _six(impact: pd.DataFrame) -> dict[str, str]:
    columns = {
        "granularity": "granularity", "component": "component", "value": "replacement", "positions": "positions",
        "direction": "direction", "set": "set",
    }  # fmt: skip
    return {name: ", ".join(dict.fromkeys(impact[column].astype(str))) for name, column in columns.items()}


def _warnings(prepared: Prepared, measured: Measured, baseline: dict[str, dict[str, float]]) -> list[str]:
    root, out = prepared.light.settings.root, []
    accuracy, primary = baseline["accuracy"]["mean"], baseline[prepared.metrics[0].name]
    if accuracy < WEAK_ACCURACY:
        out.append(
            f"the model gives the right answer on {accuracy:.0%} of the examples, so effects say little about how it does it"
        )
    elif not primary["ci_low"] > 0:
        out.append(f"the interval of the baseline {prepared.metrics[0].name} holds 0: the model does not prefer the target")
    if prepared.light.seed_effect == "none":
        out.append("the seed draws nothing here: all examples are used and the ablation is deterministic, so runs with other "
                   "seeds are the same measurement, not replicates")  # fmt: skip
    if len(set(groups_of(prepared, measured))) < 5:
        out.append("fewer than 5 groups of examples: intervals over groups are rough, or missing")
    if len(measured.examples) < len(prepared.tokens):
        out.append(f"stopped early: {len(measured.examples)} of {len(prepared.tokens)} examples were finished")
    if root.dataset.split is Split.all:
        out.append("sites were ranked on all examples, so the strongest are chosen and measured on the same data; "
                   "dataset.split=dev and then test keeps the two apart")  # fmt: skip
    return out
