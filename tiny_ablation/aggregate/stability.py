"""Would the strongest sites be the strongest again, had other groups of examples been drawn?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiny_ablation.config.seeds import generator
from tiny_ablation.interventions.confirm import candidates
from tiny_ablation.interventions.measure import Measured
from tiny_ablation.interventions.prepare import Prepared
from tiny_ablation.stats.ranks import top_set_stability

N_RESAMPLES = 1000
FAIR = 0.8
"""From this mean Jaccard overlap on, a top set is called stable."""


def stability(prepared: Prepared, measured: Sequence[Measured], n_top: int) -> dict[str, Any] | None:
    """How well the strongest sites hold under resampling; None where sites cannot be ranked on common examples.

    Args:
        prepared: the run.
        measured: all legs.
        n_top: how many sites the top is; at most half of them.
    """
    if prepared.light.table == "set_impact":  # sets that hold each other cannot be told apart by their ranks
        return None
    leg = next((m for m in measured if m.leg.tabled), None)
    rows = [] if leg is None else candidates(leg)
    if leg is None or len(rows) < 2:
        return None
    name = prepared.metrics[0].name
    deltas = (leg.values[name] - leg.baseline[name])[rows]
    groups = [prepared.tokens[i].example.group for i in leg.examples]
    if np.isnan(deltas).any() or len(set(groups)) < 2:
        return None
    k = min(n_top, len(rows) // 2)
    draws = generator(prepared.light.settings.root.seed, "bootstrap", "stability", name)
    jaccard = top_set_stability(deltas, groups, k, N_RESAMPLES, draws)
    return {
        "metric": name,
        "top": k,
        "of": len(rows),
        "n_resamples": N_RESAMPLES,
        "jaccard": jaccard,
        "stable": jaccard >= FAIR,
    }
