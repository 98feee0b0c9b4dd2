"""`summary.json` of a sweep: every cell, and per condition the metrics over seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiny_ablation.store.schema import SCHEMA_VERSION
from tiny_ablation.store.sweepdir import CellState, SweepPlan
from tiny_ablation.sweep.analysis import SweepOutcome
from tiny_ablation.sweep.analysis.children import FinishedRun, confidence
from tiny_ablation.sweep.analysis.pooled import pooled_column


def sweep_summary(plan: SweepPlan, outcome: SweepOutcome, children: Sequence[FinishedRun]) -> dict[str, Any]:
    """The content of `summary.json`."""
    level = confidence(children)
    by_condition: dict[str, list[FinishedRun]] = {name: [] for name in plan.conditions}
    for child in children:
        by_condition[child.cell.condition].append(child)
    return {
        "schema": SCHEMA_VERSION,
        "plan_digest": plan.plan_digest,
        "varies": list(plan.varies),
        "complete": outcome.complete,
        "counts": outcome.counts(),
        "failed": [_cell(each) for each in outcome.failed],
        "missing": [_cell(each) for each in outcome.missing],
        "confidence": level,
        "interval": f"mean over seeds with its {100 * level:g} % interval over the examples of all of them, pooled and "
        "clustered by group; null where it cannot be estimated",
        "conditions": {name: _condition(found, plan, name) for name, found in by_condition.items()},
        "cells": [_cell(each) for each in outcome.cells],
        "warnings": list(outcome.warnings),
    }


def _cell(state: CellState) -> dict[str, Any]:
    cell = state.cell
    planned = {"job": cell.job, "dir": cell.dir, "condition": cell.condition, "seed": cell.seed}
    return planned | {"status": state.state, "error": state.error, "run_id": state.run_id, "digest": state.digest}


def _condition(children: list[FinishedRun], plan: SweepPlan, name: str) -> dict[str, Any]:
    planned = sum(cell.condition == name for cell in plan.cells)
    head = {"seeds": [child.cell.seed for child in children], "n_planned": planned}
    if not children:
        return head | {"replicates": None, "baseline": {}, "metrics": {}, "warnings": ["no run of it finished"]}
    replicates = any(child.seed_matters for child in children)
    used = children if replicates else children[:1]
    summaries = [child.summary for child in used]
    warned = dict.fromkeys(w for s in summaries for w in s.get("warnings") or [])
    keys = ("model", "dataset", "kind", "primary", "seed_effect")
    return head | {
        **{key: _one({child.summary.get(key) for child in children}) for key in keys},
        "table": _one({child.table for child in children}),
        "replicates": replicates if len(children) > 1 else None,
        "n_examples": _one({s.get("n_examples") for s in summaries}),
        "baseline": _over_seeds(used, "baseline", "mean", "baseline", confidence(children)),
        "metrics": _over_seeds(used, "metrics", "mean_delta", "effect", confidence(children)),
        "warnings": list(warned),
    }


def _one(values: set[Any]) -> Any:
    """The only value, or all of them in order."""
    return next(iter(values)) if len(values) == 1 else sorted(values, key=str)


def _over_seeds(children: Sequence[FinishedRun], part: str, key: str, column: str, level: float) -> dict[str, Any]:
    """Each metric of one part of the runs' summaries: its mean over seeds, with the interval over the examples of all of them.

    `seeds` is the lowest and highest mean of a seed: how far draws of examples move it, and no interval.
    """
    out = {}
    for metric in dict.fromkeys(name for c in children for name in c.summary.get(part) or {}):
        found = [(c.summary.get(part) or {}).get(metric) or {} for c in children]
        values = [f[key] for f in found if isinstance(f.get(key), int | float)]
        if not values:
            continue
        bounds: Any = tuple(found[0].get(end) for end in ("ci_low", "ci_high"))
        if len(children) > 1:
            tables = [c.groups for c in children if c.groups is not None]
            whole = len(tables) == len(children)
            pooled = pooled_column(metric, f"{column}/{metric}", tables, level) if whole else None
            bounds = (float(pooled.low[0]), float(pooled.high[0])) if pooled else (None, None)
        mean = {"mean": float(np.mean(values)), "ci_low": bounds[0], "ci_high": bounds[1]}
        out[metric] = mean | {"n_seeds": len(values), "seeds": {"low": min(values), "high": max(values)}}
    return out
