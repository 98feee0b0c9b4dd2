import numpy as np
import pytest
from scipy import stats

from tiny_ablation.stats.fdr import q_values
from tiny_ablation.stats.power import (
    groups_for_equivalence,
    groups_needed,
    groups_needed_by_each,
    power_at,
    powers_in_family,
    resolvable,
    threshold,
)


# In 1,500 simulated families of 270 with ten effects of .5, 67 groups find 78 % and 70 groups 81 % of them.
@pytest.mark.parametrize(("d", "ten", "one"), [(0.5, 70, 90), (0.8, 31, 39), (1.2, 17, 21)])
def test_groups_for_ten_heads_and_for_one_among_270(d, ten, one):
    assert groups_needed(d, 270, real=10) == pytest.approx(ten, abs=1)
    assert groups_needed(d, 270) == pytest.approx(one, abs=1)


def test_what_is_promised_is_found_in_simulations():
    d, rng, found = 1.2, np.random.default_rng(0), []
    n = groups_needed(d, 100, real=10)
    assert n is not None
    for _ in range(150):
        values = rng.normal(size=(100, n)) + np.r_[np.full(10, d), np.zeros(90)][:, None]
        found.append((q_values(stats.ttest_1samp(values, 0, axis=1).pvalue)[:10] <= 0.05).mean())
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_the_smallest_effect_is_the_inverse_of_the_number_of_groups():
    d = resolvable(29, 270, real=10)
    assert d == pytest.approx(0.8, abs=0.03)
    assert resolvable(1, 270) is None
    assert power_at(d, 29, threshold(270, 10)) == pytest.approx(0.8, abs=0.01)


def test_showing_that_nothing_is_there_takes_groups_too():
    assert groups_for_equivalence(0.5) == pytest.approx(36, abs=1)
    assert groups_needed(1e-4, 10) is None


SIZES = np.r_[np.linspace(2, 0.4, 20), np.zeros(80)]


def test_what_effects_of_several_sizes_are_promised_is_found_in_simulations():
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        values = rng.normal(size=(100, 20)) + SIZES[:, None]
        found.append(q_values(stats.ttest_1samp(values, 0, axis=1).pvalue) <= 0.05)
    promised = powers_in_family(SIZES, 20, 100)
    assert np.mean(found, axis=0)[:20] == pytest.approx(promised[:20], abs=0.12)
    assert np.sum(found, axis=1).mean() == pytest.approx(promised.sum(), abs=1)


def test_effects_of_one_size_need_the_groups_that_are_said_of_them_together():
    sizes = np.r_[np.full(10, 0.8), np.zeros(260)]
    first, *_ = groups_needed_by_each(sizes, 3, 270)
    assert first == pytest.approx(groups_needed(0.8, 270, real=10), abs=1)
    assert groups_needed_by_each(np.array([1e-4]), 3, 10) == [None]


def test_larger_effects_need_fewer_groups():
    needed = groups_needed_by_each(SIZES, 5, 100)
    assert needed == sorted(needed)
    n = needed[4]
    assert powers_in_family(SIZES, n, 100)[4] >= 0.8 > powers_in_family(SIZES, n - 1, 100)[4]
