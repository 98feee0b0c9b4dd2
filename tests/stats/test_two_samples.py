import numpy as np
import pytest
from scipy import stats

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.two_samples import larger_pvalue, permutation_pvalue, permutation_resolution


def rng(seed=0):
    return np.random.default_rng(seed)


def test_groups_of_one_are_welchs_and_the_paired_t_test():
    a, b, ones = rng(1).normal(0.5, 1, 12), rng(2).normal(0, 3, 9), np.ones(12)
    welch = stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
    assert larger_pvalue(a, b, ones, ones[:9], paired=False) == pytest.approx(welch)
    paired = stats.ttest_rel(a[:9], b, alternative="greater").pvalue
    assert larger_pvalue(a[:9], b, ones[:9], ones[:9], paired=True) == pytest.approx(paired)


def test_a_mean_over_examples_not_over_groups():
    # Nine examples of 0 in one group, one of 10 in the other: the mean is 1, not 5.
    sizes = np.array([9.0, 1.0])
    high = larger_pvalue(np.array([0.0, 10.0]), np.array([0.0, 0.1]), sizes, sizes, paired=False)
    assert high > 0.05
    assert np.isnan(larger_pvalue(np.ones(1), np.ones(2), np.ones(1), np.ones(2), paired=False))
    assert np.isnan(larger_pvalue(np.ones(3), np.ones(3), np.ones(3), np.ones(3), paired=False))


def permuted(a, b, n_perm=199, seed=0):
    return permutation_pvalue(a, b, np.ones(a.shape), np.ones(b.shape), n_perm, rng(seed))


def test_one_site_by_scipy():
    a, b = rng(1).normal(0.8, 1, (1, 8)), rng(2).normal(0, 1, (1, 8))
    exact = stats.permutation_test((a[0], b[0]), lambda x, y: abs(x.mean() - y.mean()), n_resamples=np.inf,
                                   alternative="greater").pvalue  # fmt: skip
    assert permuted(a, b, n_perm=9999) == pytest.approx(exact, abs=0.015)


def test_level_and_power():
    null = [
        permuted(rng(i).normal(size=(20, 8)), rng(1000 + i).normal(size=(20, 12)), seed=i) for i in range(200)
    ]
    assert np.mean(np.array(null) <= 0.05) <= 0.09  # more than 18 of 200 has probability .01
    shift = np.zeros((20, 1))
    shift[3] = 4
    found = [
        permuted(rng(i).normal(size=(20, 8)) + shift, rng(1000 + i).normal(size=(20, 12))) for i in range(20)
    ]
    assert np.mean(np.array(found) <= 0.05) > 0.9


def test_large_sites_do_not_drown_the_others():
    a, b = rng(1).normal(size=(5, 10)), rng(2).normal(size=(5, 10))
    a[4] += 2
    scale = np.array([[1e3], [1], [1], [1], [1]])
    assert permuted(a * scale, b * scale) == permuted(a, b)


def test_groups_that_are_all_equal_do_not_differ():
    assert permuted(np.ones((3, 4)), np.ones((3, 5))) == 1


def test_resolution():
    assert permutation_resolution(3, 3, 9999) == pytest.approx(2 / 20)
    assert permutation_resolution(20, 30, 99) == pytest.approx(0.01)


def test_missing_values_are_refused():
    with pytest.raises(GuardError, match="finite"):
        permuted(np.full((1, 3), np.nan), np.ones((1, 3)))
