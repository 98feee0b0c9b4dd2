"""Choice on one split, confirmation on the other: what is compared, and that the level is kept."""

import numpy as np
import pytest

from tiny_ablation.run.confirm import confirm_warnings, confirmation, site, strongest
from tiny_ablation.run.tables import impact_table

GROUPS = [f"g{i}" for i in range(24)]


def confirmed(made_up, dev, test, n=5, groups=GROUPS):
    first, held = made_up.prepared(GROUPS), made_up.prepared(groups, split="test")
    m_dev, m_test = made_up.measured(dev, GROUPS), made_up.measured(test, groups)
    chosen = strongest([m_dev], "logit_diff", n)
    rows = [i for i, row in enumerate(m_test.arm.rows) if site(row) in chosen]
    return confirmation(first, [m_dev], held, [m_test.of_rows(rows)], chosen)


def test_the_strongest_on_dev_are_reported_as_they_are_on_test(made_up):
    rng = np.random.default_rng(0)
    dev, test = rng.normal(0, 0.1, (8, 24)), rng.normal(0, 0.1, (8, 24))
    dev[[2, 5, 7]] += [[3], [-2], [1]]
    test[[2, 5, 7]] += [[3], [2], [0]]  # the second turns around, the third was luck
    found = confirmed(made_up, dev, test, n=3, groups=[f"h{i}" for i in range(24)])
    sites = found.summary["sites"]
    assert [(s["layer"], s["head"]) for s in sites] == [(0, 2), (1, 1), (1, 3)]
    assert [s["delta_chosen"] for s in sites] == pytest.approx(dev[[2, 5, 7]].mean(1))
    assert [s["delta"] for s in sites] == pytest.approx(test[[2, 5, 7]].mean(1))
    assert [s["confirmed"] for s in sites] == [1.0, 0.0, 0.0]
    assert (found.summary["n_confirmed"], found.summary["family_size"]) == (1, 3)
    assert found.summary["shared_groups"] == []
    assert confirm_warnings(found.summary) == []


def test_groups_that_stand_in_both_splits_are_named(made_up):
    rng = np.random.default_rng(1)
    found = confirmed(made_up, rng.normal(size=(8, 24)), rng.normal(size=(8, 24)))
    (warning,) = confirm_warnings(found.summary)
    assert "24 of its 24 groups" in warning


def test_one_group_gives_no_verdict(made_up):
    rng = np.random.default_rng(2)
    found = confirmed(made_up, rng.normal(size=(8, 24)), rng.normal(size=(8, 24)) + 9, groups=["a"] * 24)
    assert found.summary["n_confirmed"] is None
    assert "one group" in found.summary["resolution"]
    assert found.table["confirmed"].isna().all()


@pytest.mark.slow
def test_the_level_holds_on_the_other_split_and_would_not_on_the_same(made_up):
    """Nothing has an effect: a discovery is false, and its chance must be at most 5 % (here within simulation error)."""
    rng, held, same, runs = np.random.default_rng(3), 0, 0, 200
    for _ in range(runs):
        dev, test = rng.normal(size=(2, 40, 24))
        held += bool(confirmed(made_up, dev, test).summary["n_confirmed"])
        chosen = np.argsort(-np.abs(dev.mean(1)))[:5]
        table = impact_table(made_up.prepared(GROUPS), [made_up.measured(dev, GROUPS).of_rows(chosen)]).impact
        same += bool((table["q_value"] <= 0.05).any())
    assert held / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)
    assert same / runs > 0.25
