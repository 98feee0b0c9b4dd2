import numpy as np
import pytest
from scipy.stats import percentileofscore

from tiny_ablation.stats.percentile import percentile_among


def test_ties_count_half():
    assert percentile_among(2, [1, 2, 3, 4]) == pytest.approx(37.5)


def test_is_scipys():
    rng = np.random.default_rng(1)
    others = rng.integers(0, 6, 40)
    for own in range(7):
        assert percentile_among(own, others) == pytest.approx(percentileofscore(others, own, kind="mean"))


def test_without_anything_to_compare_with():
    assert np.isnan(percentile_among(1.0, []))
    assert np.isnan(percentile_among(float("nan"), [1.0]))
