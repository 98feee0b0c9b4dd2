import numpy as np
import pytest
from scipy import stats

from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.means import cluster_means
from tiny_ablation.stats.selection import selected_intervals


@pytest.mark.parametrize("n_groups", [12, 30, 60])
def test_intervals_of_the_strongest_ten_cover_where_usual_ones_do_not(n_groups):
    usual, aware = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=270) * 0.2
        values = truth[:, None] + rng.normal(size=(270, n_groups))
        top = np.argsort(-np.abs(values.mean(1)))[:10]
        plain = cluster_means(values[top], np.ones(n_groups), rng=rng, n_boot=1000)
        found = selected_intervals(values[top], np.ones(n_groups), 0.05 * 10 / 270, rng=rng, n_boot=1000)
        usual.append(((plain.low <= truth[top]) & (truth[top] <= plain.high)).mean())
        aware.append(((found.low <= truth[top]) & (truth[top] <= found.high)).mean())
    assert np.mean(usual) < 0.9
    assert np.mean(aware) >= 0.95


def test_the_level_is_that_of_the_paper():
    """Unequal groups take Student's t, so that the level can be read off: 10 of 270 at 1 - 10 * .05 / 270."""
    sizes = np.array([40.0, *[4.0] * 9])
    values = np.random.default_rng(0).normal(size=(10, 10))
    found = selected_intervals(values, sizes, 0.05 * 10 / 270, rng=np.random.default_rng(0))
    mean, error, freedom = cluster_t(values, sizes)
    np.testing.assert_allclose(found.high - mean, stats.t.isf(0.5 / 270 / 2, freedom) * error)
