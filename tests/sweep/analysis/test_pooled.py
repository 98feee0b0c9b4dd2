"""Means over the examples of several seeds, by what kind of number they are."""

import numpy as np
import pandas as pd
import pytest

from tiny_ablation.stats.rates import rate_intervals
from tiny_ablation.sweep.analysis.pooled import pooled_column, pooled_intervals

SIZES = np.full((2, 8), 2.0)


def test_answers_that_are_lost_are_effects_below_zero_and_their_baseline_a_rate():
    """Effects on whether a text is right are -1, 0 or 1; they are no rates, though such metrics are 0 or 1."""
    lost = np.array([[-1.0, -2, 0, 0, 0, 1, 0, 0], [0.0] * 8])
    low, high = pooled_intervals("text_begins", lost, SIZES, 0.95, effects=True)
    assert low[0] < -2 / 16 < high[0]
    unseen = rate_intervals(np.zeros((2, 8)), SIZES).high[1]
    assert (low[1], high[1]) == pytest.approx((-unseen, unseen))
    right = np.abs(lost)
    assert np.allclose(pooled_intervals("text_begins", right, SIZES, 0.95), rate_intervals(right, SIZES))


@pytest.mark.parametrize("column", ["effect/text_begins", "effect"])
def test_a_column_of_effects_is_known_by_its_name(column):
    table = pd.DataFrame({"group": list("abcd"), "n": 1, column: [-1.0, 0.0, 0.0, 1.0]})
    found = pooled_column("text_begins", column, [table, table], 0.95)
    assert found.low[0] < 0 < found.high[0]
