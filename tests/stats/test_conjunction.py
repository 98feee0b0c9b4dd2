import numpy as np

from tiny_ablation.stats.conjunction import partial_conjunction, same_sign_everywhere


def test_by_hand():
    p = np.array([[0.01, 0.2], [0.02, 0.01], [0.03, np.nan]])
    np.testing.assert_allclose(partial_conjunction(p, 3), [0.03, np.nan])
    np.testing.assert_allclose(partial_conjunction(p, 2), [0.04, np.nan])  # (3 - 2 + 1) * .02
    np.testing.assert_allclose(partial_conjunction(p, 1), [0.03, np.nan])  # Bonferroni


def test_effects_of_different_sign_are_no_common_effect():
    p = np.array([[0.01, 0.01], [0.02, 0.02]])
    np.testing.assert_allclose(same_sign_everywhere(p, np.array([[1.0, 1.0], [2.0, -2.0]])), [0.02, 1])


def test_an_effect_in_one_condition_is_not_an_effect_in_both():
    rng = np.random.default_rng(0)
    p = np.stack([rng.random(20_000), np.full(20_000, 1e-6)])
    assert 0.045 <= (partial_conjunction(p, 2) <= 0.05).mean() <= 0.055
