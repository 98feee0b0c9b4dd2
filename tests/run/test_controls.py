"""Percentiles of heads among the others of their run, by hand."""

import numpy as np
import pytest

from tiny_ablation.run import controls
from tiny_ablation.run.controls import nearest, site_controls


def table(made_up, monkeypatch, deltas, norms, **how):
    monkeypatch.setattr(controls, "head_norms", lambda *_: np.asarray(norms, dtype=float))
    values = np.repeat(np.asarray(deltas, dtype=float)[:, None], 3, axis=1)
    found = site_controls(made_up.prepared(["a", "b", "c"]), [made_up.measured(values, **how)])
    return None if found is None else found.set_index(["layer", "head"])


def test_percentiles_by_hand(made_up, monkeypatch):
    norms = [[1.0, 2.0, 1.1, 8.0], [1.2, 9.0, 2.1, 0.1]]
    found = table(made_up, monkeypatch, [-4, 1, 2, 3, -5, 0.5, 1, 2], norms)
    assert found.loc[(0, 0), "size"] == 4
    assert found.loc[(0, 0), "random_percentile"] == pytest.approx(100 * 6 / 7)  # only L1H0 is larger
    assert found.loc[(0, 0), "layer_percentile"] == 100
    assert found.loc[(0, 1), "random_percentile"] == pytest.approx(100 * 1.5 / 7)  # one smaller, one equal
    assert found.loc[(0, 0), "random_mean"] == pytest.approx((1 + 2 + 3 + 5 + 0.5 + 1 + 2) / 7)
    # Nearest in norm to 1.0: 1.1 (L0H2), 1.2 (L1H0), 2.0 (L0H1); half of the seven others, rounded down.
    assert found.loc[(0, 0), "n_matched"] == 3
    assert found.loc[(0, 0), "matched_mean"] == pytest.approx((2 + 5 + 1) / 3)
    assert found.loc[(0, 0), "matched_percentile"] == pytest.approx(100 * 2 / 3)
    assert found.loc[(1, 3), "norm"] == 0.1


def test_nearest_is_by_ratio_and_leaves_out_the_head_itself():
    assert nearest(np.array([1.0, 1.8, 0.5, 1.0, 100.0]), 0).tolist() == [3, 1]


def test_keys_and_values_have_no_output_to_match(made_up, monkeypatch):
    found = table(made_up, monkeypatch, [1, 2, 3, 4], [[1, 2, 3, 4]], component="k")
    assert found["norm"].isna().all()
    assert found["matched_percentile"].isna().all()
    assert found["random_percentile"].tolist() == pytest.approx([0, 100 / 3, 200 / 3, 100])


def test_two_heads_are_no_distribution(made_up, monkeypatch):
    assert table(made_up, monkeypatch, [1, 2], [[1, 2]]) is None
