import numpy as np
import pytest

from tiny_ablation.stats.means import BY_WILD, cluster_means, null_of
from tiny_ablation.stats.wild import Wild, as_far, webb_weights


def rng(seed=0):
    return np.random.default_rng(seed)


def half(n_groups, n_sites, seed=0, of_big=1.0):
    """One group with half of the examples; each group's mean has the standard deviation 1, the big one's `of_big`."""
    sizes = np.array([n_groups - 1.0, *[1.0] * (n_groups - 1)])
    means = rng(seed).normal(size=(n_sites, n_groups))
    means[:, 0] *= of_big
    return means * sizes, sizes


def plain_p(sums, sizes, weights, true):
    """The p-value of one true mean in loops: Cameron, Gelbach & Miller 2008, the mean being the regression on a constant."""

    def t(values):
        mean = values.sum() / sizes.sum()
        return mean / np.sqrt(((values - mean * sizes) ** 2).sum()) * sizes.sum()

    null = sums - true * sizes
    observed = abs(t(null))
    return (1 + sum(abs(t(row * null)) >= observed * (1 - 1e-9) for row in weights)) / (1 + len(weights))


def test_agrees_with_a_plain_loop():
    sums, sizes = half(8, 3, seed=2)
    sums += 0.7 * sizes
    weights = webb_weights(8, 99, rng(1))
    sample = Wild.of(sums, sizes)
    for block, t in sample.draws(weights):
        found = (1 + as_far(t, sample.t[block])) / 100
        np.testing.assert_allclose(found, [plain_p(row, sizes, weights, 0.0) for row in sums])


def test_the_interval_holds_the_true_means_that_are_not_rejected():
    sums, sizes = half(8, 4, seed=3)
    weights = webb_weights(8, 99, rng(1))
    low, high, _ = Wild.of(sums, sizes).interval(weights, 0.905)
    for row, a, b in zip(sums, low, high, strict=True):
        assert a < row.sum() / sizes.sum() < b
        for inside, outside in ((a + 1e-4, a - 1e-4), (b - 1e-4, b + 1e-4)):
            assert plain_p(row, sizes, weights, inside) > 0.095 >= plain_p(row, sizes, weights, outside)


@pytest.mark.parametrize(("n_groups", "of_big"), [(8, 2.0), (60, 2.0), (60, 1.0)])
def test_covers_where_one_group_is_half_of_all_and_varies_as_it_likes(n_groups, of_big):
    sums, sizes = half(n_groups, 1000, of_big=of_big)
    found = cluster_means(sums, sizes, rng=rng(1), n_boot=1999)
    assert null_of(sums, sizes) == BY_WILD
    assert 0.93 <= np.mean((found.low <= 0) & (found.high >= 0)) <= 0.97
    assert np.mean(found.p <= 0.05) <= 0.065


def test_p_and_interval_agree_and_a_family_gets_finer_p_values():
    sums, sizes = half(12, 400, seed=4)
    sums[:20] += 3 * sizes
    found = cluster_means(sums, sizes, rng=rng(1), step=0.05 / 400)
    excludes = (found.low > 0) | (found.high < 0)
    assert not ((found.p <= 0.05) & ~excludes).any()
    assert found.p.min() < 1 / 2001


def test_five_groups_have_an_end_that_no_weights_reach():
    """With every weight alike t is the observed one, so few groups leave p-values that no true mean brings lower."""
    sums, sizes = half(5, 1)
    low, high, _ = Wild.of(sums, sizes).interval(webb_weights(5, 4000, rng()), 0.9999)
    assert np.isinf([low, high]).all()


def test_sites_without_spread_have_the_interval_of_their_mean():
    sizes = np.array([20.0, *[2.0] * 10])
    found = cluster_means(np.stack([0 * sizes, 3 * sizes]), sizes, rng=rng(), n_boot=200)
    np.testing.assert_allclose([found.low, found.high], [[0, 3], [0, 3]], atol=1e-12)
    np.testing.assert_allclose(found.p, [1.0, 2.0**-10])
