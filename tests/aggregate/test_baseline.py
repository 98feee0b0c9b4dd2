import numpy as np
import pytest

from tiny_ablation.aggregate.baseline import interval
from tiny_ablation.stats.bootstrap import cluster_bootstrap_means

GROUPS = [str(i) for i in range(20)]
RIGHT = np.arange(20) < 1  # one of twenty: the bootstrap-t interval reaches below 0


def test_the_interval_of_a_share_ends_where_shares_do():
    found = interval(RIGHT, GROUPS, n_boot=2000, confidence=0.95, rng=np.random.default_rng(0))
    low, high = cluster_bootstrap_means(
        RIGHT[None].astype(float), GROUPS, 2000, 0.95, np.random.default_rng(0)
    )
    assert low[0] < 0
    assert found == {"mean": 0.05, "ci_low": 0.0, "ci_high": high[0]}
    other = interval(~RIGHT, GROUPS, n_boot=2000, confidence=0.95, rng=np.random.default_rng(0))
    assert (other["mean"], other["ci_high"]) == (0.95, 1.0)


def test_the_interval_of_a_difference_is_left_as_it_is():
    values = RIGHT.astype(float)
    found = interval(values, GROUPS, n_boot=2000, confidence=0.95, rng=np.random.default_rng(0))
    assert found["ci_low"] < 0


def test_one_group_has_no_interval():
    found = interval(RIGHT, ["a"] * 20, n_boot=100, confidence=0.95, rng=np.random.default_rng(0))
    assert found["mean"] == pytest.approx(0.05)
    assert np.isnan([found["ci_low"], found["ci_high"]]).all()
