import numpy as np
import pytest
from scipy import stats

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.clusters import Intervals
from tiny_ablation.stats.rates import for_differences, rate_intervals


def exact(hits, n):
    found = stats.binomtest(hits, n).proportion_ci(method="exact")
    return found.low, found.high


def test_independent_examples_get_the_exact_interval_of_clopper_and_pearson():
    hits = np.zeros((1, 40))
    hits[0, :3] = 1
    found = rate_intervals(hits, np.ones(40))
    # One example a group: the cluster-robust variance is n / (n - 1) of the binomial, which costs one example in forty.
    np.testing.assert_allclose([found.low[0], found.high[0]], exact(3, 40), rtol=0.04)


@pytest.mark.parametrize(("hits", "bounds"), [(0, (0, 0.265)), (12, (0.735, 1))])
def test_nothing_and_everything_have_a_width(hits, bounds):
    found = rate_intervals(np.full((1, 12), hits / 12 * 4), np.full(12, 4.0))
    # Nothing tells how groups differ, so a group counts as one example: exact(0, 12).
    np.testing.assert_allclose([found.low[0], found.high[0]], bounds, atol=1e-3)


def test_a_site_without_events_learns_from_the_others_how_much_groups_differ():
    sizes, alone = np.full(12, 4.0), np.zeros((1, 12))
    spread = np.tile(np.r_[np.ones(6), np.zeros(6)], (5, 1))  # events scattered over groups: examples are nearly independent
    clumped = np.tile(np.r_[4.0, 4.0, np.zeros(10)], (5, 1))  # whole groups at once
    wide, narrow, worst = (
        rate_intervals(rows, sizes).high[0] for rows in (alone, np.vstack([alone, spread]), np.vstack([alone, clumped]))
    )
    assert narrow < 0.12 < worst
    assert worst == pytest.approx(wide, rel=0.3)


# With 12, 20 and 50 groups, bootstrap-t covers a rate of .03 in 32, 44 and 91 %.
@pytest.mark.parametrize("n_groups", [8, 12, 20, 50])
@pytest.mark.parametrize("rate", [0.01, 0.03, 0.3])
@pytest.mark.parametrize("dependence", [0.0, 0.5])
def test_coverage_is_at_least_what_is_said(n_groups, rate, dependence):
    rng = np.random.default_rng(n_groups)
    shared = rng.random((1000, n_groups)) < dependence
    each = rng.random((1000, n_groups, 4)) < rate
    hits = np.where(shared, 4.0 * each[..., 0], each.sum(2))
    found = rate_intervals(hits, np.full(n_groups, 4.0))
    assert ((found.low <= rate) & (rate <= found.high)).mean() >= 0.945
    assert (found.high - found.low).min() > 0


def test_one_group_says_nothing_and_shares_are_shares():
    assert np.isnan(rate_intervals(np.array([[1.0]]), np.array([4.0]))).all()
    with pytest.raises(GuardError, match="between 0 and 1"):
        rate_intervals(np.array([[3.0, 1.0]]), np.array([2.0, 2.0]))


def test_differences_that_are_all_alike_have_the_width_of_what_was_never_seen():
    """None of 10 examples lost its answer, all did, or some did: only the last has an interval of its own."""
    sums, sizes = np.array([[0.0] * 10, [-1.0] * 10, [-1.0, *[0.0] * 9]]), np.ones(10)
    found = Intervals(np.array([0.0, -1.0, -1.3]), np.array([0.0, -1.0, 0.1]))
    low, high = for_differences(found, sums, sizes)
    rare = stats.beta.isf(0.025, 1, 10)  # Clopper & Pearson for none of ten
    assert low == pytest.approx([-rare, -1, -1])  # a mean of these is never below
    assert high == pytest.approx([rare, -1 + rare, 0.1])
