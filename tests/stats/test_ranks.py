import warnings

import numpy as np
import pytest
from scipy import stats

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.ranks import kendalls_w, rank_biased_overlap, rank_biased_overlaps, spearman


def rng(seed=0):
    return np.random.default_rng(seed)


def test_spearman_by_hand():
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15).
    assert spearman([1, 2, 3, 4], [20, 10, 40, 30]) == pytest.approx(0.6)


@pytest.mark.parametrize(("a", "b"), [([1], [1]), ([1, 1, 1], [1, 2, 3]), ([], [])])
def test_spearman_is_missing_without_variation_and_says_nothing(a, b):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(spearman(a, b))


def test_spearman_needs_one_length():
    with pytest.raises(GuardError, match="one length"):
        spearman([1, 2], [1, 2, 3])


def test_overlap_of_equal_and_of_foreign_rankings():
    assert rank_biased_overlap("abcde", "abcde") == pytest.approx(1)
    assert rank_biased_overlap("abc", "xyz") == 0


def test_overlap_by_hand():
    # Agreement by depth 0, 1, 2/3: (2/3)(.5**3) + (.5/.5)(0 * .5 + 1 * .25 + (2/3) * .125).
    assert rank_biased_overlap("abc", "bax", p=0.5) == pytest.approx(2 / 3 * 0.125 + 0.25 + 2 / 3 * 0.125)


def test_overlap_weighs_the_top_more():
    assert rank_biased_overlap("abcdef", "bacdef") < rank_biased_overlap("abcdef", "abcdfe")


@pytest.mark.parametrize(("a", "b", "p"), [("ab", "abc", 0.9), ("", "", 0.9), ("aa", "ab", 0.9), ("a", "a", 1.0)])
def test_overlap_refuses(a, b, p):
    with pytest.raises(GuardError, match="Rank-biased overlap"):
        rank_biased_overlap(a, b, p)


@pytest.mark.parametrize("scores", [rng(0).normal(size=(5, 9)), rng(1).integers(0, 4, size=(6, 8))])
def test_concordance_agrees_with_friedman(scores):
    """W is Friedman's statistic over m (n - 1), ties and all."""
    m, n = scores.shape
    assert kendalls_w(scores) == pytest.approx(stats.friedmanchisquare(*scores.T).statistic / (m * (n - 1)))


def test_concordance_at_its_ends():
    assert kendalls_w([[1, 2, 3], [10, 20, 30]]) == pytest.approx(1)
    assert kendalls_w([[1, 2, 3], [3, 2, 1]]) == 0
    assert np.isnan(kendalls_w([[1, 2, 3]]))
    assert np.isnan(kendalls_w([[1, 1], [2, 2]]))


def test_overlaps_of_many_rankings_are_those_of_each_two():
    scores = rng(3).normal(size=(4, 30))
    order = np.argsort(-scores, axis=1)
    expected = [[rank_biased_overlap(a.tolist(), b.tolist(), 0.8) for b in order] for a in order]
    np.testing.assert_allclose(rank_biased_overlaps(scores, 0.8), expected)
