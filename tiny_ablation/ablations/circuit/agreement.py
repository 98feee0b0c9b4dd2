"""How far a ranking, its smallest circuit and the model agree with a published circuit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.ablations.circuit.curves import Curves
from tiny_ablation.ablations.circuit.published import PUBLISHED, TOLERANCE, Published
from tiny_ablation.ablations.shared.sites import Head
from tiny_ablation.models.labels import head_label
from tiny_ablation.run.plan import Arm
from tiny_ablation.run.site_statistics import interval_of_mean
from tiny_ablation.stats.ranks import auroc


def agreement(curves: Curves, arm: Arm, others: pd.DataFrame) -> dict[str, Any] | None:
    """`published` of `summary.json`; None where `ablation.reproduce` names nothing.

    Of each ranking: how many of the published heads are among as many first heads, the number that chance gives with its
    p-value (hypergeometric, one-sided), by class, and the AUROC of the published heads. Of each smallest circuit: how many it
    has. Of each published figure: what was measured here, with its interval, and whether that lies within `TOLERANCE`.
    """
    cfg: Any = curves.prepared.spec.settings.root.ablation
    if cfg.reproduce is None:
        return None
    published = PUBLISHED[cfg.reproduce]
    minimal = {name: [tuple(head) for head in found["heads"]] for name, found in arm.notes.get("minimal", {}).items()}
    return {
        "name": cfg.reproduce,
        "source": published.source,
        "model": published.model,
        "n_heads": len(published.heads),
        "dataset": published.dataset,
        "rankings": {by: of_ranking(order, published) for by, order in curves.plan.orders.items()},
        "minimal": {by: {"size": len(heads), "shared": len({*heads} & {*published.heads})} for by, heads in minimal.items()},
        "figures": [_figure(curves, others, name, value) for name, value in published.figures.items()],
    }


def of_ranking(order: Sequence[Head], published: Published) -> dict[str, Any]:
    """How far one ranking agrees: the AUROC is the chance that a published head stands before another one."""
    from scipy.stats import hypergeom

    wanted, n = {*published.heads}, len(order)
    first = {*order[: len(wanted)]}
    found = len(first & wanted)
    places: dict[bool, list[float]] = {True: [], False: []}
    for place, head in enumerate(order):
        places[head in wanted].append(-place)
    return {
        "found": found,
        "chance": len(wanted) ** 2 / n,
        "p_value": float(hypergeom.sf(found - 1, n, len(wanted), len(wanted))),
        "auroc": auroc(places[True], places[False]),
        "classes": {name: [len(first & {*heads}), len(heads)] for name, heads in published.classes.items()},
        "missed": [head_label(*head) for head in published.heads if head not in first],
    }


def _figure(curves: Curves, others: pd.DataFrame, name: str, value: float) -> dict[str, Any]:
    """One published figure beside what was measured; nothing is measured where the run has other metrics."""
    measured: dict[str, float] = {}
    if not name.startswith("baseline "):
        row: Any = others.loc[others["circuit"] == "published", :].to_dict("records")[0]
        measured = {"mean": row["faithfulness"], "ci_low": row["faithfulness_low"], "ci_high": row["faithfulness_high"]}
    elif (metric := name.removeprefix("baseline ")) == curves.prepared.metrics[0].name:
        stats = curves.prepared.spec.settings.root.stats
        measured = interval_of_mean(curves.full, curves.groups, stats, curves.draws(f"published {metric}"))
    near = abs(measured.get("mean", np.nan) - value) <= TOLERANCE * abs(value)
    return {"figure": name, "published": value, **measured, "agrees": bool(near) if measured else None}
