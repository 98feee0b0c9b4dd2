"""Words about stability, confirmation and circuits."""

import math

import pandas as pd
import pytest

from tiny_ablation.ablations.circuit.sections import headline, lines
from tiny_ablation.report.evidence import doubt, evidence_lines, evidence_tables
from tiny_ablation.run.effects import site_name

SITE = {
    "layer": 1,
    "head": 2,
    "scale": 0.0,
    "delta_chosen": -0.5,
    "delta": -0.4,
    "ci_low": -0.6,
    "ci_high": -0.2,
    "p_value": 0.01,
    "q_value": 0.02,
    "effect_size": -1.5,
    "value": 1.0,
    "confirmed": 1.0,
}
CONFIRM = {
    "split": "test",
    "chosen_on": "dev",
    "metric": "logit_diff",
    "n_examples": 40,
    "n_groups": 12,
    "shared_groups": [],
    "family_size": 1,
    "resolution": None,
    "missing": 0,
    "n_confirmed": 1,
    "n_same_sign": 1,
    "sites": [SITE],
}


def area(value):
    return {
        "value": value,
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "random_mean": 0.2,
        "n_random": 5,
        "percentile": 100.0,
    }


def point(fraction, size, f, left):
    return {
        "fraction": fraction,
        "size": size,
        "faithfulness": f,
        "faithfulness_low": f,
        "faithfulness_high": f,
        "carries": 0.8 <= f <= 1.2,
        "random_faithfulness": 0.1,
        "sufficiency_percentile": 95.0,
        "left": left,
        "left_low": left,
        "left_high": left,
        "random_left": 0.9,
        "necessity_percentile": 90.0,
    }


def circuit(*points, defined=True, members=()):
    return {
        "metric": "logit_diff",
        "replacement": "mean",
        "n_heads": 10,
        "n_examples": 8,
        "defined": defined,
        "rankings": {"signed": {"cpr": area(0.8), "cmd": area(0.2), "points": list(points), "members": list(members)}},
    }


def test_a_run_without_either_says_nothing():
    assert evidence_lines({}) == []
    assert evidence_lines({"stability": None, "confirm": None}) == []


def test_stability_is_judged_by_the_bar():
    base = {"metric": "m", "top": 5, "of": 20, "n_splits": 200}
    (good,) = evidence_lines({"stability": {**base, "jaccard": 0.91, "stable": True}})
    (bad,) = evidence_lines({"stability": {**base, "jaccard": 0.31, "stable": False}})
    assert "0.91" in good
    assert "(stable;" in good
    assert "not stable" in bad


UNSTABLE = {"stability": {"top": 10, "stable": False}}


def test_held_out_examples_decide_before_stability_what_speaks_against_a_site():
    site, other = {"layer": 1, "head": 2, "scale": 0.0}, {"layer": 1, "head": 3, "scale": 0.0}
    assert doubt({}, site) == ""
    assert doubt({"stability": {"top": 10, "stable": True}}, site) == ""
    assert "not stable" in doubt(UNSTABLE, site)
    always = [{**site, "share": 1.0, "first": 0.95}, {**other, "share": 0.9, "first": 0.05}]
    by_site = {"stability": {"top": 10, "stable": False, "fair": 0.8, "sites": always}}
    assert doubt(by_site, site) == ""
    assert "not stable" in doubt(by_site, other)
    assert doubt({**UNSTABLE, "confirm": CONFIRM}, site) == ""
    assert "not stable" in doubt({**UNSTABLE, "confirm": CONFIRM}, other)
    failed = {**CONFIRM, "sites": [{**SITE, "confirmed": 0.0}]}
    assert doubt({"confirm": failed}, site) == "split test does not confirm it"
    untested = {**CONFIRM, "sites": [{**SITE, "confirmed": None}]}
    assert "not stable" in doubt({**UNSTABLE, "confirm": untested}, site)


def test_confirmation_counts_or_says_why_not():
    (line,) = evidence_lines({"confirm": CONFIRM})
    assert "split dev, measured again on split test (40 examples in 12 groups): 1 of 1 are confirmed" in line
    (line,) = evidence_lines({"confirm": {**CONFIRM, "resolution": "too few groups", "n_confirmed": None}})
    assert "confirmed" not in line
    assert "no test: too few groups" in line


def test_the_table_of_confirmed_sites():
    (table,) = evidence_tables({"top": [], "confirm": CONFIRM}, None)
    assert table.rows == [["L1H2", "-0.500", "-0.400", "[-0.600, -0.200]", "0.020", "yes"]]


def test_controls_of_the_strongest_heads():
    top = [{"layer": 1, "head": 2, "scale": 0.0, "effect_size": -1.5}]
    controls = pd.DataFrame(
        [
            {
                "layer": 1,
                "head": 2,
                "scale": 0.0,
                "metric": "logit_diff",
                "norm": 3.0,
                "random_percentile": 99.5,
                "layer_percentile": 100.0,
                "matched_percentile": math.nan,
            }
        ]
    )
    (table,) = evidence_tables({"top": top, "primary": "logit_diff"}, controls)
    assert table.rows == [["L1H2", "-1.50", "3.00", "99.5", "100.0", "-"]]


def test_the_headline_names_the_smallest_circuit_that_carries_the_behaviour():
    found = circuit(point(0.1, 1, 0.3, 0.9), point(0.2, 2, 0.85, 0.1), point(0.5, 5, 0.95, 0.0), point(1, 10, 1.0, 0.0))
    assert headline(found).startswith("The first 2 heads of the signed ranking, of 10, carry logit_diff")
    assert "has 2 heads: f 0.85" in lines(found)[1]


def test_no_small_circuit_and_no_denominator():
    assert "No circuit smaller than the model is shown to carry" in headline(circuit(point(1, 10, 1.0, 0.0)))
    assert "too little to tell" in headline(circuit(defined=False))
    assert lines(circuit(defined=False)) == []


def test_members_that_stand_out_are_named():
    member = {"layer": 0, "head": 3, "n_inflated": 20, "needed": True}
    found = lines(circuit(point(1, 10, 1.0, 0.0), members=[member, {**member, "head": 4, "needed": False}]))
    assert found[-1].startswith(
        "Minimality: of its 2 first heads, 1 raise f (q at most 0.05 over the members) by more than 95 % of the 20"
    )
    assert found[-1].endswith("(L0H3).")


def test_stable_sites_are_named():
    sites = [
        {"layer": 23, "head": 4, "scale": 0.0, "share": 1.0, "first": 1.0},
        {"layer": 0, "head": 4, "scale": 0.0, "share": 0.6, "first": 0.0},
    ]
    found = {"top": 2, "of": 270, "n_splits": 200, "jaccard": 0.63, "stable": False, "fair": 0.8, "sites": sites}
    (said,) = evidence_lines({"stability": found})
    assert "L23H4 (100 %) is among the 2 strongest in at least 80 % of random halves" in said
    assert "L0H4" not in said
    (none,) = evidence_lines({"stability": {**found, "sites": sites[1:]}})
    assert "none is among" in none


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"layer": 3, "head": 1, "scale": 0.0, "value": 2.0}, "L3H1"),
        ({"layer": 3, "head": 1, "scale": 0.0, "direction": "clean_to_corrupt"}, "L3H1 (clean_to_corrupt)"),
        ({"layer_a": 0, "head_a": 1, "layer_b": 2, "head_b": 3, "interaction": 0.1}, "L0H1 + L2H3"),
        ({"layer": 2, "feature": 7, "scale": 0.0}, "L2 feature 7"),
        ({"set": "early", "size": 3, "heads": "L0H1"}, "early"),
    ],
)
def test_sites_of_every_table_have_a_name(row, name):
    assert site_name(row) == name
