import numpy as np
import pytest
from scipy import stats

from tiny_ablation.stats.cluster_t import cluster_t, degrees_of_freedom


def test_equal_groups_are_students_t_of_their_means():
    means = np.random.default_rng(0).normal(size=(3, 7))
    found = cluster_t(means * 4, np.full(7, 4.0))
    np.testing.assert_allclose(found.mean, means.mean(1))
    np.testing.assert_allclose(found.error, stats.sem(means, axis=1))
    np.testing.assert_allclose(found.freedom, 6)


def plain_cr2(values, groups):
    """Bell & McCaffrey with matrices: the adjustment (1 - H)^(-1/2) of every group, and Satterthwaite's degrees of freedom."""
    n, labels = len(values), np.unique(groups)
    hat = np.full((n, n), 1 / n)
    residuals, vectors, variance = values - values.mean(), [], 0.0
    for label in labels:
        mine = np.flatnonzero(groups == label)
        own = np.eye(len(mine)) - hat[np.ix_(mine, mine)]
        roots, axes = np.linalg.eigh(own)
        adjusted = axes @ np.diag(roots**-0.5) @ axes.T
        variance += (np.ones(len(mine)) @ adjusted @ residuals[mine] / n) ** 2
        vectors.append((np.eye(n) - hat)[:, mine] @ adjusted @ np.ones(len(mine)) / n)
    gram = np.array(vectors) @ np.array(vectors).T
    return np.sqrt(variance), np.trace(gram) ** 2 / (gram**2).sum()


def test_unequal_groups_agree_with_the_matrices_of_the_paper():
    groups = np.repeat(np.arange(5), [1, 2, 3, 5, 11])
    values = np.random.default_rng(1).normal(size=len(groups))
    sums, sizes = np.bincount(groups, values)[None], np.bincount(groups).astype(float)
    found, (error, freedom) = cluster_t(sums, sizes), plain_cr2(values, groups)
    np.testing.assert_allclose([found.error[0], found.freedom[0]], [error, freedom])


def test_a_group_that_is_half_of_everything_leaves_few_degrees_of_freedom():
    shares = np.array([[0.5, *[0.5 / 11] * 11]])
    assert degrees_of_freedom(shares)[0] == pytest.approx(3.4, abs=0.1)


def test_one_group_and_groups_a_site_lacks():
    one = cluster_t(np.array([[3.0]]), np.array([2.0]))
    assert one.mean[0] == 1.5
    assert np.isnan([one.error[0], one.freedom[0]]).all()
    sums, sizes = np.array([[1.0, 2.0, 4.0, 0.0]]), np.array([[1.0, 1.0, 1.0, 0.0]])
    with_gap, without = cluster_t(sums, sizes), cluster_t(sums[:, :3], sizes[:, :3])
    np.testing.assert_allclose(with_gap, without)
