import numpy as np
import pytest
from scipy.stats import ttest_1samp

from tiny_ablation.stats.effect_size import standardised


def test_by_hand():
    # Group means 1, 2 and 3: mean 2, standard deviation 1; with two degrees of freedom the factor is 1 / sqrt(pi).
    found = standardised([[0, 2, 2, 3, 3, 3]], ["a", "a", "b", "c", "c", "c"])
    assert found == pytest.approx([2 / np.sqrt(np.pi)])


@pytest.mark.parametrize("n_groups", [3, 5, 20])
def test_it_is_right_on_average_however_few_groups_there_are(n_groups):
    values = 1 + np.random.default_rng(0).normal(size=(40_000, n_groups))
    assert standardised(values, range(n_groups)).mean() == pytest.approx(1, abs=0.03)


def test_is_the_t_statistic_of_group_means_without_the_number_of_groups():
    rng = np.random.default_rng(0)
    deltas, groups = rng.normal(0.4, 1, (5, 60)), np.repeat(np.arange(12), 5)
    means = deltas.reshape(5, 12, 5).mean(2)
    expected = (1 - 3 / (4 * 11 - 1)) * ttest_1samp(means, 0, axis=1).statistic / np.sqrt(12)
    np.testing.assert_allclose(standardised(deltas, groups), expected, rtol=1e-3)


def test_without_spread_or_with_one_group_there_is_none():
    assert np.isnan(standardised([[0.1, 0.1, 0.1], [0, 0, 0]], ["a", "b", "c"])).all()
    assert np.isnan(standardised([[0.1, 0.5]], ["a", "a"])).all()
