"""Each verdict by its rule, on numbers worked by hand; the floor is 0.001."""

import numpy as np
import pytest

from tiny_ablation.verify.verdict import Compared, worst

FLOOR = 1e-3
# The baseline and three sites with effects of -1, -0.1 and +0.02, on two examples.
TRUE = np.array([[2.0, 4.0], [1.0, 3.0], [1.9, 3.9], [2.02, 4.02]])


def compared(errors, *, slack=0.0, true=TRUE, floor=FLOOR):
    again = np.array(true, dtype=float)
    return Compared(again + np.array(errors, dtype=float), again, np.full(again.shape, slack), floor)


def at(row, *values):
    """Errors at one row, none elsewhere."""
    errors = np.zeros(TRUE.shape)
    errors[row] = values
    return errors


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        (0.0, "ok"),
        (at(1, 9e-4, 9e-4), "ok"),
        (at(1, 3e-3, -3e-3), "noise"),  # single values are off, the mean is not
        (at(1, 1.5e-3, 1.5e-3), "drift"),  # the mean is: rounding has no common direction
        (at(1, 6e-3, -6e-3), "drift"),  # too large to be rounding, too small to matter
        (at(1, 0.05, 0.05), "drift"),  # a twentieth of the effect
        (at(1, 0.2, 0.2), "bug"),  # a fifth of it
        (at(3, 0.008, 0.008), "bug"),  # little, but not of an effect of 0.02
        (at(3, -0.03, -0.03), "bug"),  # the other sign
        (at(1, 0.4, -0.4), "bug"),  # the mean is right, the values are not
        (at(0, 0.5, 0.5), "bug"),  # the baseline
        (at(2, np.nan, 0.0), "bug"),
        (at(2, np.inf, 0.0), "bug"),
        (TRUE * 4e-4, "drift"),  # a common factor
        (TRUE * 1e-4, "ok"),
    ],
)
def test_verdicts(errors, verdict):
    assert compared(errors).verdict() == verdict


def test_an_effect_of_another_sign_within_rounding_is_no_flip():
    tiny = np.array([[2.0, 4.0], [2.0005, 4.0005], [1.0, 3.0]])
    found = compared([[0, 0], [-9e-4, -9e-4], [0, 0]], true=tiny)
    assert found.verdict() == "ok"
    assert not found.sign_flips.any()


def test_the_site_that_is_wrong_is_told_from_those_that_share_its_fault():
    """A broken head is in every run but the one that removes it."""
    errors = np.full(TRUE.shape, 0.5)
    errors[1] = 0.0
    found = compared(errors)
    assert found.wrong_effects.tolist() == [True, False, False]
    assert found.wrong_baseline
    assert found.effect_errors.tolist() == pytest.approx([-0.5, 0, 0])


def test_sites_in_another_order_are_drift():
    close = np.array([[2.0, 4.0], [1.0, 3.0], [0.993, 2.993], [2.5, 4.5]])
    # The two strongest differ by 7 floors; 4 floors each, of means, change their order.
    moved = compared([[0, 0], [-4e-3, -4e-3], [4e-3, 4e-3], [0, 0]], true=close)
    assert moved.swapped
    assert moved.verdict() == "drift"
    assert not compared(0.0, true=close).swapped


def test_ties_are_no_difference():
    counts = np.array([[0.0, 0.0], [1.0, 0.0]])
    assert compared([[0, 0], [0, 1]], true=counts).verdict() == "bug"
    assert compared([[0, 0], [0, 1]], true=counts, slack=1.0).verdict() == "ok"


def test_a_factor_is_not_read_off_values_that_are_too_small_for_it():
    small = TRUE / 100
    assert compared(small * 4e-3, true=small).factor == 1.0
    assert compared(TRUE * 4e-4).factor == pytest.approx(1.0004)


def test_rows_say_where():
    assert compared(at(1, 0.2, 0.2)).rows() == ["ok", "bug", "ok", "ok"]
    assert compared(at(2, np.nan, 0.0)).rows() == ["ok", "ok", "bug", "ok"]


def test_a_leg_without_sites_is_its_baseline():
    alone = compared([[0.5, 0.5]], true=TRUE[:1])
    assert (alone.verdict(), alone.rows()) == ("bug", ["bug"])
    assert compared([[0.0, 0.0]], true=TRUE[:1]).verdict() == "ok"


def test_worst():
    assert worst(["ok", "drift", "noise"]) == "drift"
    assert worst([]) == "ok"
