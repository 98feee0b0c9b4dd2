"""What ablating the invariant heads all at once did, where `sweep.confirm=true` has run it.

Each such run stands in a directory of its own and compares the set with random sets of the same size and layers. Runs of
another set than the one at hand, or that did not finish, are left out.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.ablations.shared.head_sets import label
from tiny_ablation.config.identity import differences
from tiny_ablation.errors import TinyAblateError
from tiny_ablation.store.reader import load_run
from tiny_ablation.store.schema import example_effects
from tiny_ablation.store.sweepdir import SweepDir, SweepPlan
from tiny_ablation.sweep.analysis.pooled import pooled_column


def confirmed(sweep: SweepDir, plan: SweepPlan, invariants: Mapping[str, Any]) -> dict[str, Any]:
    """`{"confirmed": [...]}`, an entry per condition and metric; nothing where no run confirms these heads.

    `delta` is the effect of the whole set, `random_sets` the mean effect of random sets, `percentile` the set's place among
    them (0 and 100 are both out of the ordinary); all are means over seeds.
    """
    heads: dict[str | None, list[tuple[int, int]]] = {}
    for each in invariants["heads"]:
        heads.setdefault(each.get("model"), []).append((each["layer"], each["head"]))
    rows = list(_rows(sweep, plan, {model: label(tuple(sorted(found))) for model, found in heads.items()}))
    if not rows:
        return {}
    entries = []
    for condition, of in pd.concat(rows).groupby("condition", sort=False):
        for metric in invariants["metrics"]:
            if len(part := of.loc[of["metric"] == metric]):
                entries.append(_entry(str(condition), metric, part))
    return {"confirmed": entries}


def _rows(sweep: SweepDir, plan: SweepPlan, sets: Mapping[str | None, str]) -> Iterator[pd.DataFrame]:
    for cell in plan.cells:
        directory = sweep.confirm(cell)
        if not (directory / "manifest.json").is_file():
            continue
        try:
            run = load_run(directory)
            planned = {name: value for name, value in {**plan.content, **cell.content}.items() if name != "inputs"}
            other = differences(run.manifest.covers, planned)  # weights, data or code other than those of the cell
            if run.manifest.status != "ok" or run.table_name != "set_impact" or other:
                continue
            rows, split, seeded = run.impact, run.summary.get("split"), run.summary.get("seed_effect") != "none"
        except TinyAblateError:  # a failed run is left out of these results
            continue
        models = rows["model"].map(lambda name: sets.get(name, sets.get(None)))
        level = run.summary.get("confidence", 0.95)
        yield rows.loc[rows["heads"] == models].assign(
            condition=cell.condition, split=split, seeded=seeded, level=level, directory=str(directory)
        )


def _entry(condition: str, metric: str, rows: pd.DataFrame) -> dict[str, Any]:
    used = rows if bool(rows["seeded"].to_numpy().any()) else rows.iloc[:1]
    deltas = used["delta"].to_numpy(dtype=np.float64)
    low, high = float(used["ci_low"].iloc[0]), float(used["ci_high"].iloc[0])
    if len(used) > 1:  # the interval over the examples of all seeds
        parts = []
        for path, name in zip(used["directory"], used["set"], strict=True):
            examples = load_run(Path(path), check=False).per_example
            examples = examples.loc[examples["set"] == name]
            parts.append(examples[["group"]].assign(n=1.0, effect=example_effects(examples, metric)))
        found = pooled_column(metric, "effect", parts, float(used["level"].iloc[0]))
        low, high = (float(found.low[0]), float(found.high[0])) if found else (float("nan"), float("nan"))
    return {
        "condition": condition,
        "model": rows["model"].iloc[0],
        "metric": metric,
        "heads": rows["heads"].iloc[0],
        "split": rows["split"].iloc[0],
        "n_seeds": len(used),
        "delta": _mean(deltas),
        "ci_low": low,
        "ci_high": high,
        "seeds": {"low": float(deltas.min()), "high": float(deltas.max())},
        "random_sets": _mean(used["control_mean"]),
        "percentile": _mean(used["percentile"]),
    }


def _mean(values: Any) -> float:
    numbers = np.asarray(values, dtype=np.float64)
    return float(numbers[np.isfinite(numbers)].mean()) if np.isfinite(numbers).any() else float("nan")
