import numpy as np
import pytest

from tiny_ablation.stats.fdr import first_step, q_values


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("bh", [0.02, 0.04, 0.04, 0.5]),
        ("by", [0.02 * 25 / 12, 0.04 * 25 / 12, 0.04 * 25 / 12, 1.0]),
        ("maxt", [0.02, 0.06, 0.06, 0.5]),
    ],
)
def test_by_hand_with_a_missing_test(method, expected):
    np.testing.assert_allclose(q_values([0.005, np.nan, 0.02, 0.03, 0.5], method), np.insert(expected, 1, np.nan))


def test_many_discoveries_together_need_no_first_step():
    """Ten equal p-values of .004 among 80: the first step asks for .000625, the tenth lets all of them pass."""
    p = np.r_[np.full(10, 0.004), np.linspace(0.1, 1, 70)]
    assert first_step(80, 0.05) < 0.004
    assert (q_values(p)[:10] <= 0.05).all()


def test_first_steps():
    assert first_step(20, 0.05) == pytest.approx(0.0025)
    assert first_step(2, 0.05, "by") == pytest.approx(0.05 / 3)
    assert np.isnan(q_values([np.nan])).all()
