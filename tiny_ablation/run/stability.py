"""Would the strongest sites be the strongest again on other groups of examples? Halves of the run's groups are compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiny_ablation.config.seeds import generator
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.stats.halves import top_set_agreement

N_SPLITS = 200
FAIR = 0.8
"""From this share of halves on, a site is called stable, and from this mean Jaccard overlap on the top set as a whole."""


def stability(prepared: PreparedRun, measured: Sequence[Measured], n_top: int) -> dict[str, Any] | None:
    """How well the strongest sites hold under resampling; None where sites cannot be ranked on common examples.

    Args:
        prepared: the run.
        measured: all arms.
        n_top: how many sites the top is; at most half of them.
    """
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
            dict(first.arm.rows[i].key) | {"share": float(found.share[i]), "first": float(found.first[i])}
            for i in order
        ],
    }
