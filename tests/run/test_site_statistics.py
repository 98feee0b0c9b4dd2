import numpy as np
import pandas as pd
import pytest

from tiny_ablation.config.schema import Fdr, StatsConfig
from tiny_ablation.run import site_statistics
from tiny_ablation.run.site_statistics import corrected, interval_of_mean, no_test_of
from tiny_ablation.run.tables import impact_table

GROUPS = [str(i) for i in range(20)]
RIGHT = np.arange(20) < 1


def interval(values, groups=GROUPS, **options):
    return interval_of_mean(values, groups, StatsConfig(), np.random.default_rng(0), **options)


def test_shares_are_exact_and_never_of_zero_width():
    found = interval(RIGHT)
    assert found["mean"] == 0.05
    assert 0 < found["ci_low"] < 0.01
    assert 0.2 < found["ci_high"] < 0.3
    everything = interval(np.ones(20), rate=True)
    assert (everything["ci_low"], everything["ci_high"]) == (pytest.approx(0.832, abs=1e-3), 1.0)


def test_the_interval_of_a_difference_may_reach_below_zero():
    assert interval(RIGHT.astype(float))["ci_low"] < 0


def test_one_group_has_no_interval():
    found = interval(RIGHT, ["a"] * 20)
    assert found["mean"] == pytest.approx(0.05)
    assert np.isnan([found["ci_low"], found["ci_high"]]).all()


def test_what_cannot_fall_below_zero_is_not_tested_against_it():
    assert no_test_of("logit_diff") is None
    assert no_test_of("p_drop") is None
    for name in ("kl_div", "acc_flip_rate"):
        assert "never below 0" in str(no_test_of(name))


def effects(n_heads=30, n_groups=12, real=6, size=2.5, seed=0):
    rng = np.random.default_rng(seed)
    means = np.where(np.arange(n_heads) < real, size, 0.0)
    return means[:, None] + rng.normal(size=(n_heads, n_groups))


def impact(made_up, deltas, **stats):
    prepared = made_up.prepared([str(i) for i in range(deltas.shape[1])], n_perm=None, **stats)
    return impact_table(prepared, [made_up.measured(deltas)]).impact


def test_twelve_groups_have_q_values_though_one_head_alone_could_not_be_found(made_up):
    """Sign flips of 8 groups end at .008, the first step of 30 tests is .0017: nothing was printed."""
    found = impact(made_up, effects(n_groups=8))
    assert found["q_value"].notna().all()
    assert (found["q_value"].to_numpy()[:6] <= 0.05).all()


def test_the_correction_is_the_one_asked_for(made_up):
    q = {fdr: impact(made_up, effects(), fdr=fdr)["q_value"].to_numpy() for fdr in Fdr}
    assert (q[Fdr.by] >= q[Fdr.bh] * 0.999).all()
    assert (q[Fdr.by] > q[Fdr.bh]).any()
    assert (q[Fdr.maxt] != q[Fdr.bh]).any()
    assert (q[Fdr.maxt][:6] <= 0.05).sum() >= 3


def test_strongest_sites_have_intervals_that_allow_for_the_choice_and_smaller_sizes(made_up):
    found = impact(made_up, effects(real=0))
    assert (found["selected_low"] <= found["ci_low"]).all()
    assert (found["selected_high"] >= found["ci_high"]).all()
    wider = (found["selected_high"] - found["selected_low"]) / (found["ci_high"] - found["ci_low"])
    assert wider.median() > 1.2
    assert (found["shrunken"].abs() < found["delta"].abs()).all()


def test_within_the_margin_is_a_finding_and_needs_one(made_up):
    assert impact(made_up, effects())["p_equivalent"].isna().all()
    found = impact(made_up, effects(n_groups=40), margin=1.0)
    assert (found["q_equivalent"].to_numpy()[6:] <= 0.05).mean() > 0.9
    assert (found["q_equivalent"].to_numpy()[:6] > 0.05).all()


def test_the_draws_for_p_values_can_be_set(made_up, monkeypatch):
    asked = []
    real = site_statistics.cluster_means
    monkeypatch.setattr(site_statistics, "cluster_means", lambda *a, **k: asked.append(k) or real(*a, **k))
    prepared = made_up.prepared(GROUPS, n_perm=1234)
    impact_table(prepared, [made_up.measured(effects(n_groups=20))])
    assert asked[0]["n_draws"] == 1234


def test_metrics_are_corrected_apart_and_family_wise_values_win():
    frame = pd.DataFrame(
        {
            "metric": ["a", "a", "b"],
            "p_value": [0.01, 0.5, 0.04],
            "p_equivalent": [np.nan] * 3,
            "p_family": [np.nan, 0.7, np.nan],
        }
    )
    np.testing.assert_allclose(corrected(frame, "bh")["q_value"], [0.02, 0.7, 0.04])
