"""Whether two heads do more, or less, together than the sum of what each does alone.

The interaction is E(ab) - E(a) - E(b), computed per example and averaged. Below zero for a behaviour that both carry: each is
the other's backup, and removing one hides what the pair does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiny_ablation.config.seeds import generator
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.run.site_statistics import LEVEL
from tiny_ablation.stats.clusters import cluster_sums
from tiny_ablation.stats.fdr import first_step, q_values
from tiny_ablation.stats.means import cluster_means

_COLUMNS = ("delta_a", "delta_b", "interaction", "interaction_low", "interaction_high", "interaction_p", "interaction_q")


def interaction_columns(prepared: PreparedRun, pairs: Measured, measured: Sequence[Measured], metric: str) -> dict[str, Any]:
    """For each pair, both single effects and the interaction with its interval and test; each (n_pairs,).

    The q-values are over all pairs of the metric: among many pairs some interval always excludes 0 by chance.

    Args:
        prepared: the run.
        pairs: the arm of the pairs.
        measured: all arms; the one that is not in the table holds the single heads, as pairs of a head with itself.
        metric: which effects.

    Returns:
        The columns; all NaN where the run was stopped before any example of the single heads was finished.
    """
    singles = next((m for m in measured if not m.arm.in_table), None)
    if singles is None:
        return dict.fromkeys(_COLUMNS, np.nan)
    pairs, singles = aligned([pairs, singles])
    if not len(pairs.examples):
        return dict.fromkeys(_COLUMNS, np.nan)
    alone = singles.delta(metric)
    place = {(row.key["layer_a"], row.key["head_a"]): i for i, row in enumerate(singles.arm.rows)}
    a, b = (alone[[place[row.key[f"layer_{end}"], row.key[f"head_{end}"]] for row in pairs.arm.rows]] for end in ("a", "b"))
    root = prepared.spec.settings.root
    sums, sizes = cluster_sums(pairs.delta(metric) - a - b, pairs.groups)
    method = root.stats.fdr.value
    found = cluster_means(
        sums,
        sizes,
        rng=generator(root.seed, "bootstrap", metric, "interaction"),
        confidence=root.stats.confidence,
        n_boot=root.stats.n_boot,
        step=first_step(len(sums), LEVEL, method),
        n_draws=root.stats.n_perm,
    )
    columns = (a.mean(1), b.mean(1), *found, q_values(found.p, method))
    return dict(zip(_COLUMNS, columns, strict=True))
