import time

import numpy as np
import pytest
from scipy import stats

from tiny_ablation.errors import GuardError
from tiny_ablation.stats import signflip
from tiny_ablation.stats.signflip import profile_pvalue, resolution, sign_flip_pvalues


def rng(seed=0):
    return np.random.default_rng(seed)


def scipy_p(deltas, n_resamples, seed=0):
    result = stats.permutation_test(
        (deltas,),
        lambda x, axis: np.abs(np.mean(x, axis=axis)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=n_resamples,
        vectorized=True,
        rng=rng(seed),
    )
    return result.pvalue


def test_exact_by_hand():
    # Of the 8 sign patterns of (1, 2, 3), |sum| is 6 for two and at least 4 for four; (3, -1, -2) sums to 0.
    p = sign_flip_pvalues([[1, 2, 3], [-1, 2, 3], [3, -1, -2]], [0, 1, 2], 100, rng())
    np.testing.assert_array_equal(p, [0.25, 0.5, 1.0])


def test_exact_agrees_with_scipy():
    deltas = rng(1).normal(0.4, 1, size=(5, 10))
    p = sign_flip_pvalues(deltas, np.arange(10), 2000, rng())
    np.testing.assert_allclose(p, [scipy_p(row, np.inf) for row in deltas], rtol=1e-12)


def test_drawn_agrees_with_exact():
    deltas = rng(1).normal(0.3, 1, size=(6, 12))
    exact = sign_flip_pvalues(deltas, np.arange(12), 2**12, rng())
    drawn = sign_flip_pvalues(deltas, np.arange(12), 2**12 - 1, rng())
    np.testing.assert_allclose(drawn, exact, atol=0.04)
    assert not np.array_equal(drawn, exact)


def test_groups_are_flipped_as_a_whole():
    deltas = rng(1).normal(0.3, 1, size=(4, 8))
    alone = sign_flip_pvalues(deltas, np.arange(8), 1000, rng())
    copied = sign_flip_pvalues(np.repeat(deltas, 5, 1), np.repeat(np.arange(8), 5), 1000, rng())
    np.testing.assert_array_equal(alone, copied)


@pytest.mark.parametrize("n_groups", [3, 40])
def test_no_effect_has_p_one(n_groups):
    p = sign_flip_pvalues(np.zeros((2, n_groups)), np.arange(n_groups), 500, rng())
    assert (p == 1).all()


def test_ties_count_whatever_the_rounding():
    """Many patterns of decimal fractions tie with the data only up to rounding; whole numbers tie exactly."""
    deltas = np.array([[0.1] * 9, [0.7, 0.1, 0.2] * 3]) * 1e-7
    deltas[:, 0] *= -1
    whole = np.round(deltas * 1e8)
    p = sign_flip_pvalues(deltas, np.arange(9), 1000, rng())
    np.testing.assert_array_equal(p, sign_flip_pvalues(whole, np.arange(9), 1000, rng()))


@pytest.mark.parametrize(("n_groups", "n_perm"), [(8, 1000), (8, 99), (25, 999)])
def test_level(n_groups, n_perm):
    """Under the null, p <= alpha happens in at most alpha of the cases: 4000 sites, three standard errors."""
    source = rng(n_groups)
    groups = np.repeat(np.arange(n_groups), np.arange(n_groups) % 4 + 1)
    scale = np.arange(1, n_groups + 1)[groups]
    hits = {0.05: [], 0.01: []}
    for _ in range(20):
        common = source.standard_t(3, size=(200, n_groups))[:, groups]
        p = sign_flip_pvalues(common * scale, groups, n_perm, source)
        for alpha, found in hits.items():
            found.append((p <= alpha).mean())
    assert np.mean(hits[0.05]) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert np.mean(hits[0.01]) <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 4000)
    assert np.mean(hits[0.05]) >= 0.03


def test_a_strong_effect_reaches_the_resolution():
    deltas = 1 + 0.01 * rng().normal(size=(1, 60))
    for n_groups, n_perm in [(4, 100), (12, 4096), (60, 999)]:
        p = sign_flip_pvalues(deltas[:, :n_groups], np.arange(n_groups), n_perm, rng())
        assert p[0] == resolution(n_groups, n_perm)


def test_resolution_by_hand():
    assert resolution(1, 1000) == 1
    assert resolution(5, 1000) == 2 / 32
    assert resolution(300, 19999) == 1 / 20000
    assert resolution(10, 1000) == 2 / 1024  # too many to count, and no draw of 1000 can do better


@pytest.mark.parametrize("n_groups", [10, 70])
def test_the_size_of_blocks_changes_nothing(monkeypatch, n_groups):
    deltas = rng().normal(size=(7, n_groups))
    one = sign_flip_pvalues(deltas, np.arange(n_groups), 1024, rng())
    monkeypatch.setattr(signflip, "_BLOCK", 7 * 33)
    np.testing.assert_array_equal(one, sign_flip_pvalues(deltas, np.arange(n_groups), 1024, rng()))


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(GuardError, match="Site 0, example 1 is nan"):
        sign_flip_pvalues([[1.0, np.nan]], [0, 1], 100, rng())


def test_no_draws_are_refused():
    with pytest.raises(GuardError, match=r"stats\.n_perm"):
        sign_flip_pvalues([[1.0, 2.0]], [0, 1], 0, rng())


def test_all_heads_of_the_default_model_take_seconds():
    deltas = rng().normal(size=(270, 300))
    start = time.perf_counter()
    sign_flip_pvalues(deltas, np.arange(300), 10_000, rng())
    assert time.perf_counter() - start < 5


def test_a_profile_of_one_site_is_tested_like_the_site():
    deltas, groups = np.random.default_rng(1).normal(0.4, 1, (1, 30)), np.repeat(np.arange(10), 3)
    both = [f(deltas, groups, 5000, np.random.default_rng(2)) for f in (profile_pvalue, sign_flip_pvalues)]
    assert both[0] == pytest.approx(both[1][0])


def test_a_profile_has_its_level_and_finds_one_site_among_many():
    def p(seed, effect):
        draws = np.random.default_rng(seed)
        deltas = draws.normal(size=(20, 12)) + 0.8 * draws.normal(size=12)  # sites depend on each other
        deltas[4] += effect
        return profile_pvalue(deltas, np.arange(12), 500, draws)

    assert np.mean([p(seed, 0) <= 0.05 for seed in range(200)]) <= 0.09  # more has probability .01
    assert np.mean([p(seed, 8) <= 0.05 for seed in range(20)]) > 0.8


def test_a_profile_without_effects():
    assert profile_pvalue(np.zeros((3, 4)), np.arange(4), 100, np.random.default_rng(0)) == 1
