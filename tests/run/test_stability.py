import numpy as np

from tiny_ablation.run.summary import stability

GROUPS = [f"g{i}" for i in range(12)]


def test_clear_effects_stay_on_top_and_noise_does_not(made_up):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20, 12))
    clear = noise + np.where(np.arange(20) < 3, 20, 0)[:, None]
    run = made_up.prepared(GROUPS)
    steady, shaky = (stability(run, [made_up.measured(deltas, GROUPS)], 3) for deltas in (clear, noise))
    assert (steady["jaccard"], steady["stable"]) == (1.0, True)
    assert shaky["jaccard"] < 0.7
    assert not shaky["stable"]
    assert steady["n_splits"] >= 100
    assert [site["share"] for site in steady["sites"]] == [1.0] * 3
    assert {site["head"] for site in steady["sites"]} == {0, 1, 2}
    assert max(site["share"] for site in shaky["sites"]) < 1


def test_by_hand_two_groups(made_up):
    """Head 0 is strongest in group a, head 1 in group b: the halves never agree. Where head 0 is strongest in both they do."""
    apart = stability(made_up.prepared(["a", "b"]), [made_up.measured([[3, 0], [0, 2]], ["a", "b"])], 1)
    alike = stability(made_up.prepared(["a", "b"]), [made_up.measured([[3, 5], [0, 2]], ["a", "b"])], 1)
    assert (apart["jaccard"], alike["jaccard"]) == (0, 1)
    assert (apart["sites"][0]["share"], alike["sites"][0]["share"]) == (0.5, 1.0)
    assert alike["sites"][0]["first"] == 1.0


def test_where_there_is_nothing_to_rank(made_up):
    assert stability(made_up.prepared(["a", "a"]), [made_up.measured(np.ones((4, 2)), ["a", "a"])], 2) is None
    assert stability(made_up.prepared(["a", "b"]), [made_up.measured(np.ones((1, 2)), ["a", "b"])], 2) is None
    assert stability(made_up.prepared(["a", "b"]), [made_up.measured(np.full((4, 2), np.nan), ["a", "b"])], 2) is None
