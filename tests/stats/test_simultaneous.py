import numpy as np
import pytest
from scipy import stats

from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.simultaneous import critical_value


def test_all_means_are_covered_together():
    held = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        values = np.cumsum(rng.normal(size=(8, 15)), axis=0)
        found = cluster_t(values, np.ones(15))
        reach = critical_value(values, np.ones(15), 0.95, rng=rng, n_boot=500)
        held.append((np.abs(found.mean) <= reach * found.error).all())
    assert 0.93 <= np.mean(held) <= 0.98


def test_copies_of_one_mean_cost_nothing_and_unequal_groups_take_bonferronis():
    rng, one = np.random.default_rng(0), np.random.default_rng(1).normal(size=(1, 40))
    copies = critical_value(np.repeat(one, 9, 0), np.ones(40), 0.95, rng=rng)
    assert copies == pytest.approx(stats.t.isf(0.025, 39), rel=0.1)
    sizes = np.array([40.0, *[4.0] * 9])
    values = rng.normal(size=(5, 10))
    freedom = cluster_t(values, sizes).freedom[0]
    assert critical_value(values, sizes, 0.95, rng=rng) == pytest.approx(stats.t.isf(0.005, freedom))
    assert critical_value(np.ones((2, 10)), np.ones(10), 0.95, rng=rng) == pytest.approx(stats.t.isf(0.025, 9))
