import numpy as np
import pytest
from scipy import stats

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.equivalence import equivalence_pvalues


def test_it_is_the_larger_of_two_one_sided_tests():
    values = np.random.default_rng(0).normal(size=(4, 20)) * 0.5
    found = equivalence_pvalues(values, np.ones(20), 0.3)
    below = stats.ttest_1samp(values, 0.3, axis=1, alternative="less").pvalue
    above = stats.ttest_1samp(values, -0.3, axis=1, alternative="greater").pvalue
    np.testing.assert_allclose(found, np.maximum(below, above))


def test_an_effect_at_the_margin_is_called_small_in_five_percent():
    values = 2 + np.random.default_rng(0).normal(size=(20_000, 15))
    assert 0.044 <= (equivalence_pvalues(values, np.ones(15), 2.0) <= 0.05).mean() <= 0.056


def test_no_spread_one_group_and_no_margin():
    np.testing.assert_array_equal(equivalence_pvalues(np.array([[0.1] * 3, [2.0] * 3]), np.ones(3), 1.0) > 0.5, [False, True])
    assert np.isnan(equivalence_pvalues(np.array([[0.1]]), np.ones(1), 1.0)[0])
    with pytest.raises(GuardError, match="above 0"):
        equivalence_pvalues(np.ones((1, 3)), np.ones(3), 0.0)
