import numpy as np
import pytest
from scipy.stats import spearmanr

from tiny_ablation.store.files import read_json
from tiny_ablation.store.sweepdir import SweepDir
from tiny_ablation.sweep.analysis import aggregate_sweep
from tiny_ablation.sweep.analysis.geometry import geometry, rank_correlations


def test_rank_correlations_are_scipys():
    rows = np.random.default_rng(0).integers(0, 8, (4, 15)).astype(float)
    np.testing.assert_allclose(rank_correlations(rows), spearmanr(rows.T).statistic, atol=1e-12)
    rows[1, :3] = np.nan
    there = rank_correlations(rows)
    assert there[0, 1] == pytest.approx(spearmanr(rows[0, 3:], rows[1, 3:]).statistic)
    assert there[0, 2] == pytest.approx(spearmanr(rows[0], rows[2]).statistic)


def test_a_constant_row_has_no_correlation():
    found = rank_correlations(np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]]))
    assert np.isnan(found[0]).all()
    assert found[1, 1] == 1


def test_conditions_by_hand(make):
    """Two conditions alike and one that differs in one head: one direction holds nearly all of the difference."""
    mades = [make.planted(c, strong={1: -1.0, **({7: 3.0} if c == "sva" else {})}) for c in ("facts", "ioi", "sva")]
    [grid], _ = make.measured(mades)
    [found] = geometry([grid], ["logit_diff"])["conditions"]
    means = [made.effects.mean(1) for made in mades]
    expected = 1 - np.array([[spearmanr(a, b).statistic for b in means] for a in means])
    np.testing.assert_allclose(found["distance"], expected, atol=1e-12)
    first, second = found["principal_components"]
    assert first["share_of_variance"] > 0.95
    assert first["loadings"][0] == {"layer": 2, "head": 1, "loading": pytest.approx(1, abs=0.05)}
    assert first["scores"]["sva"] == pytest.approx(2.0, abs=0.1)  # 3 less the mean of 0, 0, 3
    assert first["scores"]["facts"] == pytest.approx(-1.0, abs=0.1)
    assert first["share_of_variance"] + second["share_of_variance"] == pytest.approx(1)


def test_metrics_of_files(make, tmp_path):
    """The second metric of the made-up runs is the first turned around."""
    aggregate_sweep(make.write_sweep(tmp_path, [make.planted(c) for c in ("facts", "ioi")]))
    stored = read_json(SweepDir(tmp_path).cross / "geometry.json")
    assert stored["metrics"][0]["names"] == ["logit_diff", "p_drop"]
    assert stored["metrics"][0]["rank_correlation"] == [pytest.approx([1, -1]), pytest.approx([-1, 1])]
