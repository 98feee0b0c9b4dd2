import numpy as np
import pytest
from scipy import stats

from tiny_ablation.stats.ratios import Shape, ratio_of_means


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_bounds_are_where_the_t_test_changes_its_mind():
    above, below = rng().normal(1, 1, size=(1, 15)), rng(1).normal(4, 1, size=15)
    found = ratio_of_means(above, below, np.arange(15))
    assert found.shape == [Shape.interval]
    for bound in (found.low[0], found.high[0]):
        assert stats.ttest_1samp(above[0] - bound * below, 0).pvalue == pytest.approx(0.05)
    assert found.ratio[0] == above.mean() / below.mean()


def test_a_denominator_that_may_be_zero_gives_an_unbounded_set():
    below = rng(1).normal(0.1, 1, size=12)
    clear, unclear = 5 + 0.1 * rng(2).normal(size=12), rng(3).normal(size=12)
    found = ratio_of_means(np.stack([clear, unclear]), below, np.arange(12))
    assert found.shape == [Shape.outside, Shape.everything]
    assert stats.ttest_1samp(clear - (found.low[0] + found.high[0]) / 2 * below, 0).pvalue < 0.05
    assert np.isnan([found.low[1], found.high[1]]).all()
    narrow = found._replace(low=found.low, high=found.low * (1 + 1e-9))
    assert found.columns("low", "high", "shape")["shape"][0].startswith("outside (")
    assert narrow.columns("low", "high", "shape")["shape"] == ["everything", "everything"]


@pytest.mark.parametrize("n_groups", [8, 12, 30])
def test_coverage_with_noise_as_large_as_the_denominator(n_groups):
    """Bootstrap intervals that are missing where the denominator may be 0 cover in 80 to 90 % of the rest."""
    below = 1 + rng(n_groups).normal(size=(3000, n_groups))
    above = 0.7 * below + rng(1).normal(size=below.shape)
    found = ratio_of_means(above, below, np.arange(n_groups))
    inside = (found.low <= 0.7) & (found.high >= 0.7)
    held = [
        bool(i) if s is Shape.interval else s is Shape.everything or not i for i, s in zip(inside, found.shape, strict=True)
    ]
    assert 0.94 <= np.mean(held) <= 0.965


def test_a_shared_denominator_groups_and_a_critical_value():
    groups = np.repeat(np.arange(10), 4)
    above, below = rng().normal(size=(3, 40)), 5 + rng(1).normal(size=40)
    found = ratio_of_means(above, below, groups)
    np.testing.assert_allclose(found.ratio, above.mean(1) / below.mean())
    wider = ratio_of_means(above, below, groups, critical=3.0)
    assert (wider.low < found.low).all()
    assert (wider.high > found.high).all()


def test_one_group_and_no_denominator():
    assert ratio_of_means([[1.0, 2.0]], [3.0, 4.0], [0, 0]).shape == [Shape.unknown]
    none = ratio_of_means([[1.0, 2.0, 4.0]], [0.0, 0.0, 0.0], [0, 1, 2])
    assert np.isnan(none.ratio[0])
    assert none.shape == [Shape.everything]
