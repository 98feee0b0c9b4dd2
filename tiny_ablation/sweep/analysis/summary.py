"""`summary.json` of a sweep: every cell, and per condition the metrics over seeds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tiny_ablation.stats.seeds_interval import student_interval
from tiny_ablation.store.schema import SCHEMA_VERSION
from tiny_ablation.store.sweepdir import CellState, SweepPlan
from tiny_ablation.sweep.analysis import SweepOutcome
from tiny_ablation.sweep.analysis.children import FinishedRun, confidence

NO_REPLICATES = (
    "the seed draws nothing here (seed_effect: none), so its {n} seeds are one measurement, not {n}; there is no interval over "
    "seeds"
)


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
        "interval": f"mean over seeds with its Student-t {100 * level:g} % interval; null where it cannot be estimated",
        "conditions": {name: _condition(found, plan, name) for name, found in by_condition.items()},
        "cells": [_cell(each) for each in outcome.cells],
        "warnings": list(outcome.warnings),
    }


def condition_warnings(plan: SweepPlan, children: Sequence[FinishedRun]) -> Iterator[str]:
    """What is to be known about the seeds of each condition."""
    for name in plan.conditions:
        found = [child for child in children if child.cell.condition == name]
        if len(found) > 1 and not any(child.seed_matters for child in found):
            yield f"{name}: {NO_REPLICATES.format(n=len(found))}"


def _cell(state: CellState) -> dict[str, Any]:
    cell = state.cell
    return {
        "job": cell.job, "dir": cell.dir, "condition": cell.condition, "seed": cell.seed, "status": state.state,
        "error": state.error, "run_id": state.run_id, "digest": state.digest,
    }  # fmt: skip


def _condition(children: list[FinishedRun], plan: SweepPlan, name: str) -> dict[str, Any]:
    planned = [cell.seed for cell in plan.cells if cell.condition == name]
    head = {"seeds": [child.cell.seed for child in children], "n_planned": len(planned)}
    if not children:
        return head | {
            "replicates": None,
            "baseline": {},
            "metrics": {},
            "warnings": ["no run of it finished"],
        }
    replicates = any(child.seed_matters for child in children)
    summaries = [child.summary for child in (children if replicates else children[:1])]
    warned = dict.fromkeys(w for s in summaries for w in s.get("warnings") or [])
    return head | {
        **{key: _common(children, key) for key in ("model", "dataset", "kind", "primary", "seed_effect")},
        "table": _one({child.table for child in children}),
        "replicates": replicates if len(children) > 1 else None,
        "n_examples": _one({s.get("n_examples") for s in summaries}),
        "baseline": _over_seeds(summaries, "baseline", "mean", confidence(children)),
        "metrics": _over_seeds(summaries, "metrics", "mean_delta", confidence(children)),
        "warnings": list(warned),
    }


def _common(children: Sequence[FinishedRun], key: str) -> Any:
    return _one({child.summary.get(key) for child in children})


def _one(values: set[Any]) -> Any:
    """The only value, or all of them in order."""
    return next(iter(values)) if len(values) == 1 else sorted(values, key=str)


def _over_seeds(summaries: Sequence[Mapping[str, Any]], part: str, key: str, level: float) -> dict[str, Any]:
    """Each metric of one part of the runs' summaries, with its interval over seeds.

    `examples` is the first run's own interval, over groups of its examples: what there is where seeds are no replicates.
    """
    out = {}
    for metric in dict.fromkeys(name for s in summaries for name in s.get(part) or {}):
        found = [(s.get(part) or {}).get(metric) or {} for s in summaries]
        values = [f[key] for f in found if isinstance(f.get(key), int | float)]
        if values:
            mean, low, high, n = student_interval(np.array(values, dtype=np.float64), level)
            out[metric] = {
                "mean": mean, "ci_low": low, "ci_high": high, "n_seeds": n,
                "examples": {name: found[0].get(name) for name in ("ci_low", "ci_high")},
            }  # fmt: skip
    return out
