import numpy as np
import pytest

from tiny_ablation.stats.cluster_t import cluster_t
from tiny_ablation.stats.shrinkage import moderated, shrunken


@pytest.mark.parametrize("n_groups", [12, 30, 60])
def test_the_strongest_ten_are_about_as_large_as_they_are(n_groups):
    """Raw sizes are 1.5 to 4 times the true ones."""
    shown = raw = true = 0.0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=270) * 0.2
        found = cluster_t(truth[:, None] + rng.normal(size=(270, n_groups)), np.ones(n_groups))
        top = np.argsort(-np.abs(found.mean))[:10]
        sign = np.sign(found.mean[top])
        shown += (shrunken(*found)[top] * sign).sum()
        raw += (found.mean[top] * sign).sum()
        true += (truth[top] * sign).sum()
    assert raw / true > 1.25
    assert 1 / 1.5 <= shown / true <= 1.5


def test_a_clear_effect_among_nothing_stays_and_noise_goes():
    rng = np.random.default_rng(0)
    effects = np.r_[10.0, rng.normal(size=200) * 0.1]
    found = shrunken(effects, np.full(201, 0.1), np.full(201, 50.0))
    assert found[0] == pytest.approx(10, rel=0.01)
    assert np.abs(found[1:]).max() < 0.15
    assert (np.sign(found) * np.sign(effects) >= 0).all()


def test_variances_of_one_kind_become_one_and_clear_differences_stay():
    rng = np.random.default_rng(0)
    same = rng.chisquare(11, size=300) / 11
    np.testing.assert_allclose(moderated(same, np.full(300, 11.0)), 1, atol=0.3)
    apart = same * np.repeat([1.0, 100.0], 150)
    found = moderated(apart, np.full(300, 11.0))
    assert np.median(found[150:]) / np.median(found[:150]) > 50


def test_what_has_no_error_stays():
    np.testing.assert_array_equal(shrunken(np.array([1.0, 2.0]), np.array([0.0, np.nan]), np.array([3.0, 3.0])), [1, 2])
