import numpy as np
import pytest

from tiny_ablation.stats.profiles import difference_pvalue, paired_profiles, unpaired_profiles


def shares(values):
    """What each group adds to the mean, and its share of the examples."""
    n = values.shape[1]
    return values / n, np.full(values.shape, 1 / n)


def level(test, repeats=200):
    return np.mean([test(np.random.default_rng(seed)) <= 0.05 for seed in range(repeats)])


def test_equal_profiles_of_unequal_samples_are_not_told_apart():
    """10 groups of deviation 3 against 50 of 1: permutations of groups call nearly all of these different."""

    def test(rng):
        a, b = 3 * rng.normal(size=(30, 10)), rng.normal(size=(30, 50))
        return unpaired_profiles(shares(a), shares(b), rng, 400)

    assert level(test) <= 0.06


def test_skewed_differences_on_the_same_groups_are_not_told_apart():
    """Sign flips find a difference in 20 to 62 % of these."""
    assert level(lambda rng: paired_profiles(*shares(rng.exponential(size=(30, 12)) - 1), rng, 400)) <= 0.06


def test_real_differences_are_found():
    def paired(rng):
        return paired_profiles(*shares(rng.normal(size=(30, 20)) + np.r_[1.5, np.zeros(29)][:, None]), rng, 400)

    def unpaired(rng):
        a, b = rng.normal(size=(30, 20)), rng.normal(size=(30, 30))
        a[0] += 2
        return unpaired_profiles(shares(a), shares(b), rng, 400)

    assert level(paired, 40) > 0.8
    assert level(unpaired, 40) > 0.8


@pytest.mark.parametrize("skew", [1, -1])
def test_one_difference_holds_its_level_on_skewed_samples(skew):
    def test(rng):
        a, b = (skew * (rng.exponential(size=(1, n)) - 1) for n in (10, 25))
        return difference_pvalue(shares(a), shares(b), rng, 400)

    assert level(test, 400) <= 0.07


def test_few_groups_and_no_difference():
    rng = np.random.default_rng(0)
    assert np.isnan(paired_profiles(*shares(rng.normal(size=(3, 4))), rng))
    assert np.isnan(unpaired_profiles(shares(rng.normal(size=(3, 4))), shares(rng.normal(size=(3, 9))), rng))
    assert paired_profiles(*shares(np.zeros((3, 8))), rng) == 1
    assert np.isnan(difference_pvalue(shares(np.ones((1, 8))), None, rng))
    assert difference_pvalue(shares(1 + 0.1 * rng.normal(size=(1, 3))), None, rng) < 0.05
