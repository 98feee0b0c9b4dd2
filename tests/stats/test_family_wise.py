import numpy as np

from tiny_ablation.stats.family_wise import family_wise
from tiny_ablation.stats.means import cluster_means


def adjusted(values, seed=0, sizes=None):
    sizes = np.ones(values.shape[1]) if sizes is None else sizes
    rng = np.random.default_rng(seed)
    return family_wise(values, sizes, cluster_means(values, sizes, rng=rng).p, 1000, rng)


def test_correlated_skewed_sites_without_effect_are_found_in_at_most_five_percent():
    """Benjamini-Hochberg on sign flips finds something in 18 to 32 % of such families."""
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values = 0.8 * rng.exponential(size=(100, 20)) + 0.6 * rng.exponential(size=(1, 20)) - 1.4
        found.append((adjusted(values, seed) <= 0.05).any())
    assert np.mean(found) <= 0.06


def test_equal_sites_cost_nothing_and_independent_ones_do():
    rng = np.random.default_rng(3)
    one = rng.normal(0.7, 1, size=(1, 25))
    alone, copies = adjusted(one)[0], adjusted(np.repeat(one, 600, 0))
    np.testing.assert_allclose(copies, alone, rtol=0.5)
    assert adjusted(np.vstack([one, rng.normal(size=(599, 25))]))[0] > 5 * alone


def test_discoveries_step_down_in_order_of_strength():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(40, 30)) + np.r_[[3.0, 2.0, 1.0], np.zeros(37)][:, None]
    found = adjusted(values)
    strength = np.abs(values.mean(1) / values.std(1))
    assert (np.diff(found[np.argsort(-strength)]) >= 0).all()
    assert (found[:3] <= 0.05).all()


def test_where_groups_are_too_unequal_to_bootstrap_it_is_holms():
    sizes = np.array([50.0, *[1.0] * 10])
    values = np.random.default_rng(0).normal(size=(3, 11))
    p = cluster_means(values, sizes, rng=np.random.default_rng(0)).p
    np.testing.assert_allclose(np.sort(adjusted(values, sizes=sizes))[0], min(1, 3 * p.min()))
