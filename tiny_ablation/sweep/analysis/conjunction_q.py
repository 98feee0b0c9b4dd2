"""Is there an effect at a component in as many conditions as an operation on top sets asks for?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tiny_ablation.config.schema import SetOperation, SweepConfig
from tiny_ablation.run.site_statistics import LEVEL, no_test_of
from tiny_ablation.stats.clusters import Floats
from tiny_ablation.stats.conjunction import partial_conjunction
from tiny_ablation.stats.fdr import q_values
from tiny_ablation.sweep.analysis.effect_sign import strength
from tiny_ablation.sweep.analysis.examples import Grouped


def conjunction_q(
    grouped: Sequence[Grouped | None],
    mean: Floats,
    candidates: NDArray[np.bool_],
    cfg: SweepConfig,
    metric: str,
    notes: list[str],
) -> Floats | None:
    """The q-value of each component, over those that are candidates in all conditions.

    Args:
        grouped: the effects of each condition by group of examples.
        mean: (n_conditions, n_sites), mean effects; with `sweep.direction` an effect of the other sign is none.
        candidates: (n_conditions, n_sites), what may be in a top set.
        cfg: what was asked for.
        metric: that ranks components.
        notes: where it is said why there is no test.

    Returns:
        (n_sites,), 1 at components that are no candidates; None where nothing can be tested.
    """
    there = [g for g in grouped if g is not None and len(g.groups) > 1]
    reason = no_test_of(metric)
    if reason or len(there) < len(grouped):
        why = reason.removeprefix("none: ") if reason else "examples are of one group, or were not kept"
        notes.append(f"whether components have an effect at all is not tested: {why}")
        return None
    of_all = candidates.any(0) if cfg.op in _ONE else candidates.all(0)
    p = np.ones(mean.shape)
    for i, each in enumerate(there):
        mine = of_all & candidates[i]
        if mine.any():
            found = each.tests(mine, LEVEL).p
            p[i, mine] = np.where(strength(mean[i, mine], metric, cfg.direction) > 0, np.nan_to_num(found, nan=1.0), 1.0)
    q = np.ones(mean.shape[1])
    q[of_all] = q_values(partial_conjunction(p[:, of_all], _at_least(cfg.op, len(p))))
    return q


_ONE = (SetOperation.union, SetOperation.difference)


def _at_least(op: SetOperation, n_conditions: int) -> int:
    """How many conditions must have an effect."""
    if op in _ONE:
        return 1
    return n_conditions if op is SetOperation.intersection else n_conditions // 2 + 1
