"""Sign flips against counting them all, McNemar's exact test, and the level that they hold."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from tiny_ablation.stats.sign_flips import sign_flip_pvalues


@pytest.mark.parametrize("parts", [1, 3])
def test_is_what_counting_all_signs_gives(parts):
    sums = np.random.default_rng(0).integers(-4, 4, size=(5, 9)) / parts
    for row, found in zip(sums, sign_flip_pvalues(sums), strict=True):
        totals = [abs(np.dot(signs, row)) for signs in product((-1, 1), repeat=len(row))]
        assert found == pytest.approx(np.mean([total >= abs(row.sum()) - 1e-9 for total in totals]))


def test_is_mcnemars_for_groups_of_one_example():
    sums = np.array([[-1.0] * 10 + [0] * 2, [-1.0] * 7 + [1] * 3 + [0] * 2, [0.0] * 12])
    expected = [stats.binomtest(10, 10).pvalue, stats.binomtest(7, 10).pvalue, 1.0]
    assert sign_flip_pvalues(sums) == pytest.approx(expected)


def test_holds_its_level_where_answers_are_lost_as_often_as_gained():
    rng = np.random.default_rng(1)
    sums = rng.choice([-1.0, 0.0, 1.0], p=[0.2, 0.6, 0.2], size=(2000, 30))
    assert (sign_flip_pvalues(sums) <= 0.05).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 2000)
