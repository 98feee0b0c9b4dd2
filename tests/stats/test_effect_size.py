import numpy as np
import pytest
from scipy.stats import ttest_1samp

from tiny_ablation.stats.effect_size import standardised


def test_by_hand():
    # Group means 1, 2 and 3: mean 2, standard deviation 1.
    assert standardised([[0, 2, 2, 3, 3, 3]], ["a", "a", "b", "c", "c", "c"]) == pytest.approx([2.0])


def test_is_the_t_statistic_of_group_means_without_the_number_of_groups():
    rng = np.random.default_rng(0)
    deltas, groups = rng.normal(0.4, 1, (5, 60)), np.repeat(np.arange(12), 5)
    means = deltas.reshape(5, 12, 5).mean(2)
    expected = ttest_1samp(means, 0, axis=1).statistic / np.sqrt(12)
    np.testing.assert_allclose(standardised(deltas, groups), expected)


def test_without_spread_or_with_one_group_there_is_none():
    assert np.isnan(standardised([[0.1, 0.1, 0.1], [0, 0, 0]], ["a", "b", "c"])).all()
    assert np.isnan(standardised([[0.1, 0.5]], ["a", "a"])).all()
