"""Coverage and levels are held by `tiny-ablate selfcheck`; here is what can be said exactly, and the worst cases."""

import time

import numpy as np
import pytest
from scipy import stats

from tiny_ablation.errors import GuardError
from tiny_ablation.stats import means
from tiny_ablation.stats.clusters import cluster_sums
from tiny_ablation.stats.fdr import first_step, q_values
from tiny_ablation.stats.means import BY_BOOTSTRAP, BY_STUDENT, BY_WILD, by_bootstrap, cluster_means, null_of


def rng(seed=0):
    return np.random.default_rng(seed)


def of(values, groups, seed=5, **options):
    return cluster_means(*cluster_sums(values, groups), rng=rng(seed), **options)


def exponential(n_sites, n_groups, seed=0):
    return rng(seed).exponential(size=(n_sites, n_groups)) - 1


def plain_bootstrap_t(sums, sizes, weights, confidence):
    """The interval of one mean with given draws of groups, in loops: Davison & Hinkley, 5.2, with a clustered error."""

    def mean_and_error(row):
        n, k = row @ sizes, row.sum()
        mean = row @ sums / n
        return mean, np.sqrt(k / (k - 1) * (row @ (sums - mean * sizes) ** 2)) / n

    mean, error = mean_and_error(np.ones(len(sizes)))
    t = [(m - mean) / e for m, e in map(mean_and_error, weights)]
    low, high = np.quantile(t, [(1 - confidence) / 2, (1 + confidence) / 2], method="weibull")
    return mean - high * error, mean - low * error


def test_agrees_with_a_plain_loop_on_unequal_groups():
    sizes = np.array([2.0, 3, 4, 5, 4, 3, 2, 5])
    sums = rng(4).exponential(size=(3, 8)) * sizes
    found = cluster_means(sums, sizes, rng=rng(5), n_boot=400, confidence=0.9)
    weights = rng(5).multinomial(8, np.full(8, 1 / 8), size=400).astype(float)
    expected = [plain_bootstrap_t(row, sizes, weights, 0.9) for row in sums]
    np.testing.assert_allclose(np.array([found.low, found.high]).T, expected, rtol=1e-9)


def test_the_rule_looks_at_the_groups_and_never_at_the_effect():
    equal, few, unequal = np.ones(5), np.ones(4), np.array([20.0, *[2.0] * 10])
    for sizes, chosen in ((equal, True), (few, False), (unequal, False)):
        for scale in (0.0, 1.0, 1e6):
            sums = scale * rng().normal(size=(2, len(sizes)))
            assert by_bootstrap(sums, sizes) is chosen
    assert null_of(np.zeros((1, 5)), equal) == BY_BOOTSTRAP
    assert null_of(np.zeros((1, 4)), few) == BY_STUDENT
    assert null_of(np.zeros((1, 11)), unequal) == BY_WILD


def test_three_groups_are_students_t():
    values = rng().normal(size=(4, 9))
    found = of(values, np.repeat([0, 1, 2], 3), confidence=0.9)
    groups = values.reshape(4, 3, 3).mean(2)
    np.testing.assert_allclose(found[1:3], stats.t.interval(0.9, 2, groups.mean(1), stats.sem(groups, axis=1)))
    np.testing.assert_allclose(found.p, stats.ttest_1samp(groups, 0, axis=1).pvalue)


def test_a_small_p_value_never_contradicts_the_interval():
    found = of(exponential(500, 10) + rng(1).normal(size=(500, 1)) * 0.3, np.arange(10))
    assert ((found.low > 0) | (found.high < 0))[found.p <= 0.05].all()
    assert (found.p <= 0.05).sum() > 20


@pytest.mark.parametrize("n_groups", [8, 12, 20])
def test_the_level_holds_for_skewed_effects_where_sign_flips_do_not(n_groups):
    """Sign flips find something in 9 % here; 3,000 families make the standard error .004."""
    found = of(exponential(3000, n_groups, n_groups), np.arange(n_groups), n_boot=1000)
    assert (found.p <= 0.05).mean() <= 0.06


def test_one_group_that_is_half_of_all_is_covered():
    sizes = np.array([44, *[4] * 11])
    groups = np.repeat(np.arange(12), sizes)
    values = rng().normal(size=(2000, 12))[:, groups] + rng(1).normal(size=(2000, len(groups)))
    found = of(values, groups)
    assert 0.93 <= ((found.low <= 0) & (found.high >= 0)).mean() <= 0.97


def test_q_values_of_a_lone_effect_can_be_reached_in_a_large_family():
    values = rng().normal(size=(1440, 30))
    values[0] += 3
    found = of(values, np.arange(30), step=first_step(1440, 0.05))
    assert q_values(found.p)[0] <= 0.05
    assert q_values(of(values, np.arange(30)).p)[0] > 0.05  # 2,000 draws do not reach that far


def test_more_draws_are_made_only_where_they_matter(monkeypatch):
    drawn = []
    real = means.resample_groups
    monkeypatch.setattr(means, "resample_groups", lambda n, k, r: drawn.append(k) or real(n, k, r))
    of(rng().normal(size=(50, 12)) + 5, np.arange(12), step=first_step(50, 0.05))
    assert sum(drawn) < 3000
    drawn.clear()
    of(np.zeros((50, 12)), np.arange(12), step=first_step(50, 0.05))
    assert sum(drawn) == 2000
    drawn.clear()
    of(np.zeros((5, 12)) + rng().normal(size=12), np.arange(12), n_draws=7000)
    assert sum(drawn) == 7000


def test_all_heads_of_the_default_model_take_a_second():
    values = rng().normal(size=(270, 300))
    start = time.process_time()
    of(values, np.arange(300), step=first_step(270, 0.05))
    assert time.process_time() - start < 3


def test_large_samples_agree_with_scipy():
    values = rng(1).exponential(size=400)
    found = of(values[None], np.arange(400), n_boot=5000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=5000, rng=rng(2)).confidence_interval
    np.testing.assert_allclose([found.low[0], found.high[0]], expected, atol=0.02)


def test_groups_matter():
    """Ten copies of each example in its group tell no more than one."""
    values = rng().normal(size=(3, 20))
    once = of(values, np.arange(20))
    np.testing.assert_allclose(once, of(np.repeat(values, 10, 1), np.repeat(np.arange(20), 10)), rtol=1e-9)


def test_shifts_and_scales_carry_over_and_order_does_not_matter():
    values, groups, order = rng().normal(size=(50, 60)), np.arange(60) % 12, rng(9).permutation(60)
    plain = of(values, groups)
    np.testing.assert_allclose(of(3 * values + 7, groups)[:3], 3 * np.array(plain[:3]) + 7, rtol=1e-9)
    np.testing.assert_allclose(of(-values[:, order], groups[order]).p, plain.p, rtol=0.2)


def test_many_sites_are_done_in_pieces_without_changing_any():
    values, groups = rng().normal(size=(1203, 40)), np.arange(40) % 10
    together, alone = of(values, groups, n_boot=300), of(values[1100:1101], groups, n_boot=300)
    np.testing.assert_allclose(np.array(together)[:, 1100], np.array(alone)[:, 0], rtol=1e-12)


def test_sites_without_spread():
    values = np.stack([np.zeros(12), np.full(12, 2.0), -np.ones(12)])
    found = of(values, np.arange(12))
    np.testing.assert_array_equal(found.low, found.high)
    np.testing.assert_allclose(found.p, [1, 2.0**-11, 2.0**-11])


def test_a_rare_event_has_a_finite_interval():
    """Most draws of the two groups with an effect among thirty have little or no spread."""
    values = np.zeros((1, 30))
    values[0, :2] = 1
    found = of(values, np.arange(30))
    expected = stats.t.interval(0.95, 29, values.mean(), stats.sem(values[0]))
    np.testing.assert_allclose([found.low[0], found.high[0]], expected, rtol=1e-9)


def test_one_group_has_no_interval_and_no_test():
    found = of([[1.0, 2.0]], ["a", "a"])
    assert found.mean[0] == 1.5
    assert np.isnan([found.low[0], found.high[0], found.p[0]]).all()


@pytest.mark.parametrize(("confidence", "n_boot"), [(95, 100), (0.0, 100), (0.95, 0)])
def test_impossible_intervals_are_refused(confidence, n_boot):
    with pytest.raises(GuardError, match="No interval"):
        of([[1.0, 2.0]], [0, 1], n_boot=n_boot, confidence=confidence)
