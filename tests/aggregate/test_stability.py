import numpy as np
import pytest

from tiny_ablation.aggregate.stability import stability

GROUPS = [f"g{i}" for i in range(12)]


def test_clear_effects_stay_on_top_and_noise_does_not(made_up):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20, 12))
    clear = noise + np.where(np.arange(20) < 3, 20, 0)[:, None]
    run = made_up.prepared(GROUPS)
    steady, shaky = (stability(run, [made_up.measured(deltas)], 3) for deltas in (clear, noise))
    assert (steady["jaccard"], steady["stable"]) == (1.0, True)
    assert shaky["jaccard"] < 0.7
    assert not shaky["stable"]
    assert steady["n_resamples"] >= 100


def test_by_hand_two_groups(made_up):
    """Head 0 is strongest in group a, head 1 in group b; a draw is aa, ab or bb with chances 1/4, 1/2, 1/4."""
    found = stability(made_up.prepared(["a", "b"]), [made_up.measured([[3, 0], [0, 2]])], 1)
    assert found["jaccard"] == pytest.approx(0.75, abs=0.05)


def test_where_there_is_nothing_to_rank(made_up):
    assert stability(made_up.prepared(["a", "a"]), [made_up.measured(np.ones((4, 2)))], 2) is None
    assert stability(made_up.prepared(["a", "b"]), [made_up.measured(np.ones((1, 2)))], 2) is None
    assert stability(made_up.prepared(["a", "b"]), [made_up.measured(np.full((4, 2), np.nan))], 2) is None
