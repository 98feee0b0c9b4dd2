import numpy as np
import pytest
from scipy.stats import norm

from tiny_ablation.stats.fdr import can_resolve, first_step, q_values
from tiny_ablation.stats.signflip import sign_flip_pvalues


def test_by_hand():
    # p * m / rank, then the smallest of what follows: .01*4/1, .04*4/3 twice, .5.
    np.testing.assert_allclose(q_values([0.5, 0.01, 0.04, 0.03]), [0.5, 0.04, 0.16 / 3, 0.16 / 3])


@pytest.mark.parametrize("method", ["bh", "by"])
def test_a_q_value_is_the_smallest_level_at_which_the_step_up_procedure_rejects(method):
    """The procedure itself: reject the k smallest p-values for the largest k with p_(k) <= k alpha / (m penalty)."""
    p = np.random.default_rng(3).uniform(size=30) ** 3
    q, penalty = q_values(p, method), sum(1 / i for i in range(1, 31)) if method == "by" else 1.0
    for alpha in (0.01, 0.05, 0.2, 0.7):
        below = np.sort(p) <= np.arange(1, 31) * alpha / (30 * penalty)
        rejected = p <= np.sort(p)[np.flatnonzero(below)[-1]] if below.any() else np.zeros(30, bool)
        np.testing.assert_array_equal(q <= alpha, rejected)


def test_by_is_bh_times_the_harmonic_number():
    p = np.array([0.001, 0.002, 0.01])
    np.testing.assert_allclose(q_values(p, "by"), q_values(p) * (1 + 1 / 2 + 1 / 3))


def test_a_missing_test_is_not_in_the_family():
    found = q_values([0.01, np.nan, 0.02])
    np.testing.assert_allclose(found, [0.02, np.nan, 0.02])


@pytest.mark.parametrize("p", [[], [np.nan, np.nan]])
def test_an_empty_family(p):
    assert np.isnan(q_values(p)).all()


def test_false_discovery_rate_with_true_effects():
    source, rates, power = np.random.default_rng(0), [], []
    for _ in range(400):
        z = source.normal(size=100)
        z[:20] += 3
        found = q_values(2 * norm.sf(np.abs(z))) <= 0.05
        rates.append(found[20:].sum() / max(found.sum(), 1))
        power.append(found[:20].mean())
    assert np.mean(rates) <= 0.05
    assert np.mean(power) > 0.5


def test_false_discoveries_of_the_whole_chain_under_the_null():
    """200 null runs of 60 sites: the share with any discovery at q <= .05 (all are false) is at most .05."""
    source, groups = np.random.default_rng(1), np.repeat(np.arange(20), 4)
    any_found = []
    for _ in range(200):
        deltas = source.normal(size=(60, 20))[:, groups] + source.normal(size=(60, 80))
        any_found.append((q_values(sign_flip_pvalues(deltas, groups, 4999, source)) <= 0.05).any())
    assert np.mean(any_found) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize(
    ("family", "resolution", "method", "expected"),
    [
        (270, 1 / 20001, "bh", True),
        (270, 1 / 1001, "bh", False),
        (20, 0.0025, "bh", True),  # 20 * .0025 is .05 exactly
        (20, 0.0025, "by", False),
        (0, 0.0, "bh", False),
    ],
)
def test_can_resolve(family, resolution, method, expected):
    assert can_resolve(family, resolution, 0.05, method) is expected


def test_the_first_step_is_where_a_lone_p_value_becomes_a_discovery():
    for method in ("bh", "by"):
        step = first_step(40, 0.05, method)
        for factor, found in ((0.999, True), (1.001, False)):
            assert (q_values([step * factor, *[1.0] * 39], method)[0] <= 0.05) is np.bool_(found)
