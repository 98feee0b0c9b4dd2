import time

import numpy as np
import pytest
from scipy import stats

from tiny_ablation.errors import GuardError
from tiny_ablation.stats.bootstrap import cluster_bootstrap_means, ratio_of_means, resample_groups


def rng(seed=0):
    return np.random.default_rng(seed)


SIZES = {
    "equal": lambda n: np.full(n, 10),
    "unequal": lambda n: np.r_[np.full(n // 2, 4), np.full(n - n // 2, 20)],
}
DRAWS = {
    "normal": lambda r, shape: r.normal(size=shape),
    "skewed": lambda r, shape: r.exponential(size=shape) - 1,
}


def coverage(draw, sizes, n_groups, repeats=12, n_sites=200):
    """The share of 95 % intervals that hold the true mean, 0; its standard error is below .005."""
    groups = np.repeat(np.arange(n_groups), SIZES[sizes](n_groups))
    source, hits = rng(n_groups), []
    for _ in range(repeats):
        common = DRAWS[draw](source, (n_sites, n_groups))[:, groups]
        values = common + source.normal(size=(n_sites, len(groups)))
        found = cluster_bootstrap_means(values, groups, 1000, 0.95, source)
        hits.append(((found.low <= 0) & (found.high >= 0)).mean())
    return float(np.mean(hits))


# Percentile intervals reach .90 (equal) and .88 (unequal) with 10 groups; ignoring groups gives about .5.
@pytest.mark.parametrize("n_groups", [10, 30, 100])
@pytest.mark.parametrize(("draw", "sizes"), [("normal", "equal"), ("normal", "unequal"), ("skewed", "equal")])
def test_coverage(draw, sizes, n_groups):
    least = 0.915 if n_groups == 10 else 0.93
    assert least <= coverage(draw, sizes, n_groups) <= 0.97


def test_coverage_at_its_worst_is_known():
    assert 0.89 <= coverage("skewed", "unequal", 10) <= 0.96


def test_three_groups_fall_back_to_student():
    values = rng().normal(size=(4, 9))
    groups = np.repeat([0, 1, 2], 3)
    found = cluster_bootstrap_means(values, groups, 1000, 0.9, rng())
    means = values.reshape(4, 3, 3).mean(2)
    expected = stats.t.interval(0.9, 2, means.mean(1), stats.sem(means, axis=1))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def plain_bootstrap_t(values, groups, weights, confidence):
    """The interval of one mean with given draws of groups, in loops: Davison & Hinkley, 5.2, with a clustered error."""
    labels = np.unique(groups)
    of = {label: values[groups == label] for label in labels}

    def mean_and_error(chosen):
        everything = np.concatenate([of[label] for label in chosen])
        mean, n = everything.mean(), len(chosen)
        squares = sum((of[label].sum() - mean * len(of[label])) ** 2 for label in chosen)
        return mean, np.sqrt(n / (n - 1) * squares) / len(everything)

    mean, error = mean_and_error(labels)
    t = []
    for row in weights.astype(int):
        drawn, drawn_error = mean_and_error(np.repeat(labels, row))
        t.append((drawn - mean) / drawn_error)
    low, high = np.quantile(t, [(1 - confidence) / 2, (1 + confidence) / 2], method="weibull")
    return mean - high * error, mean - low * error


def test_agrees_with_a_plain_loop_on_unequal_groups():
    groups = np.repeat(np.arange(8), [1, 2, 3, 4, 5, 6, 7, 8])
    values = rng(4).exponential(size=(3, len(groups))) + np.arange(8)[groups] / 10
    found = cluster_bootstrap_means(values, groups, 400, 0.9, rng(5))
    weights = resample_groups(8, 400, rng(5))
    expected = [plain_bootstrap_t(row, groups, weights, 0.9) for row in values]
    np.testing.assert_allclose(np.array(found).T, expected, rtol=1e-9)


def test_all_heads_of_the_default_model_take_seconds():
    values = rng().normal(size=(270, 300))
    start = time.process_time()
    cluster_bootstrap_means(values, np.arange(300), 10_000, 0.95, rng())
    assert time.process_time() - start < 5


def test_large_samples_agree_with_scipy():
    values = rng(1).exponential(size=400)
    found = cluster_bootstrap_means(values[None], np.arange(400), 5000, 0.95, rng())
    expected = stats.bootstrap((values,), np.mean, n_resamples=5000, rng=rng(2)).confidence_interval
    np.testing.assert_allclose([found.low[0], found.high[0]], expected, atol=0.02)


def test_groups_matter():
    """Ten copies of each example in its group tell no more than one."""
    values = rng().normal(size=(3, 20))
    once = cluster_bootstrap_means(values, np.arange(20), 1000, 0.95, rng())
    copied = cluster_bootstrap_means(
        np.repeat(values, 10, 1), np.repeat(np.arange(20), 10), 1000, 0.95, rng()
    )
    np.testing.assert_allclose(once, copied, rtol=1e-9)


def test_the_mean_is_inside_and_shifts_and_scales_carry_over():
    values, groups = rng().normal(size=(50, 60)), np.arange(60) % 12
    plain = cluster_bootstrap_means(values, groups, 500, 0.95, rng(5))
    moved = cluster_bootstrap_means(3 * values + 7, groups, 500, 0.95, rng(5))
    assert ((plain.low < values.mean(1)) & (values.mean(1) < plain.high)).all()
    np.testing.assert_allclose(moved, 3 * np.array(plain) + 7, rtol=1e-9)


def test_many_sites_are_done_in_pieces_without_changing_any():
    values, groups = rng().normal(size=(1203, 40)), np.arange(40) % 10
    together = np.array(cluster_bootstrap_means(values, groups, 300, 0.95, rng(5)))
    alone = np.array(cluster_bootstrap_means(values[1100:1101], groups, 300, 0.95, rng(5)))
    np.testing.assert_allclose(together[:, 1100], alone[:, 0], rtol=1e-12)


def test_order_of_examples_does_not_matter():
    values, groups, order = rng().normal(size=(5, 60)), np.arange(60) % 12, rng(9).permutation(60)
    one = cluster_bootstrap_means(values, groups, 500, 0.95, rng(5))
    two = cluster_bootstrap_means(values[:, order], groups[order], 500, 0.95, rng(5))
    np.testing.assert_allclose(one, two, rtol=1e-9)


def test_one_group_has_no_interval():
    found = cluster_bootstrap_means([[1.0, 2.0]], ["a", "a"], 100, 0.95, rng())
    assert np.isnan(found).all()


def test_a_site_without_effect_is_exactly_zero():
    found = cluster_bootstrap_means(np.zeros((1, 30)), np.arange(30), 500, 0.95, rng())
    assert (found.low[0], found.high[0]) == (0, 0)


def test_a_rare_event_has_a_finite_interval():
    """Most draws of the two groups with an event among thirty have little or no spread."""
    values = np.zeros((1, 30))
    values[0, :2] = 1
    found = cluster_bootstrap_means(values, np.arange(30), 2000, 0.95, rng())
    expected = stats.t.interval(0.95, 29, values.mean(), stats.sem(values[0]))
    np.testing.assert_allclose([found.low[0], found.high[0]], expected, rtol=1e-9)


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(GuardError, match="Site 0, example 1 is nan"):
        cluster_bootstrap_means([[1.0, np.nan]], [0, 1], 100, 0.95, rng())


@pytest.mark.parametrize(("confidence", "n_boot"), [(95, 100), (0.0, 100), (0.95, 0)])
def test_impossible_intervals_are_refused(confidence, n_boot):
    with pytest.raises(GuardError, match="No interval"):
        cluster_bootstrap_means([[1.0, 2.0]], [0, 1], n_boot, confidence, rng())


def test_ratio_is_of_means_and_covers():
    groups, source, hits = np.repeat(np.arange(30), 5), rng(3), []
    for _ in range(10):
        below = 2 + source.normal(size=(200, 150))
        above = 0.7 * below + source.normal(size=(200, 30))[:, groups] * 0.5 + source.normal(size=(200, 150))
        found = ratio_of_means(above, below, groups, 1000, 0.95, source)
        hits.append(((found.low <= 0.7) & (found.high >= 0.7)).mean())
    np.testing.assert_allclose(found.ratio, above.mean(1) / below.mean(1))
    assert 0.93 <= np.mean(hits) <= 0.97


def test_ratio_with_a_shared_denominator():
    above, below = rng().normal(size=(3, 40)), 5 + rng(1).normal(size=40)
    found = ratio_of_means(above, below, np.arange(40), 500, 0.95, rng())
    np.testing.assert_allclose(found.ratio, above.mean(1) / below.mean())


def test_ratio_is_missing_where_the_denominator_may_be_zero():
    below = np.stack([rng().normal(size=40), 5 + rng().normal(size=40), -5 + rng().normal(size=40)])
    found = ratio_of_means(np.ones((3, 40)), below, np.arange(40), 500, 0.95, rng())
    np.testing.assert_array_equal(np.isnan(found), [[True, False, False]] * 3)
    assert found.low[2] < found.ratio[2] < found.high[2] < 0


def test_ratio_of_one_group_is_missing():
    assert np.isnan(ratio_of_means([[1.0, 2.0]], [3.0, 4.0], [0, 0], 100, 0.95, rng())).all()
