import json

import numpy as np
import pytest

from tiny_ablation.commands.invariants import _lines
from tiny_ablation.config.schema import EffectSign, SetOperation, SweepConfig
from tiny_ablation.report.sweep_answer import _alike
from tiny_ablation.report.sweep_screen import conserved
from tiny_ablation.store.files import read_json, to_json
from tiny_ablation.store.sweepdir import SweepDir
from tiny_ablation.sweep.analysis import aggregate_sweep, sweep_invariants
from tiny_ablation.sweep.analysis.invariants import find_invariants


def found(make, mades, **settings):
    grids, examples = make.measured(mades)
    return find_invariants(grids, examples, SweepConfig(**settings), ["logit_diff"])


def heads(result):
    return {(head["layer"], head["head"]) for head in result["heads"]}


@pytest.fixture
def three(make):
    """Heads 1 and 5 hurt everywhere, 7 helps everywhere, 2, 3 and 4 are each strong in one condition."""
    common = {1: -1.0, 5: -0.8, 7: 0.6}
    own = {"facts": {2: -0.5}, "ioi": {3: -0.5}, "sva": {4: -0.5}}
    return [make.planted(c, strong=common | more) for c, more in own.items()]


def test_the_first_keys_and_the_planted_set(make, three):
    result = found(make, three, k=4)
    assert list(result)[:4] == ["k", "metrics", "heads", "layers"]
    assert heads(result) == {(0, 1), (1, 2), (2, 1)}
    assert all(set(head) == {"layer", "head"} for head in result["heads"])
    [entry] = result["sets"]
    assert entry["size"] == 3
    assert [m["stability"] for m in entry["members"]] == pytest.approx([1, 1, 1], abs=0.05)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"op": SetOperation.union}, {1, 5, 7, 2, 3, 4}),
        ({"op": SetOperation.difference}, {2, 3, 4}),
        ({"op": SetOperation.majority}, {1, 5, 7}),
        ({"direction": EffectSign.hurts, "k": 3}, {1, 5}),
        ({"direction": EffectSign.helps, "k": 1}, {7}),
    ],
)
def test_operations_and_signs(make, three, settings, expected):
    assert heads(found(make, three, **{"k": 4, **settings})) == {(i // 3, i % 3) for i in expected}


def test_which_condition_a_component_is_specific_to(make, three):
    [entry] = found(make, three, k=4, op=SetOperation.difference)["sets"]
    assert {m["layer"] * 3 + m["head"]: m["conditions"] for m in entry["members"]} == {2: ["facts"], 3: ["ioi"], 4: ["sva"]}


def test_fewer_than_k_are_handled_and_said(make):
    mades = [make.planted(c, strong={1: -1.0}, noise=0.0) for c in ("facts", "ioi")]
    result = found(make, mades, k=5)
    assert heads(result) == {(0, 1)}
    assert "facts: 1 of 12 components have any effect, fewer than k=5" in result["sets"][0]["notes"]
    assert heads(found(make, mades, k=5, direction=EffectSign.helps)) == set()


def test_k_as_a_q_value(make, three):
    result = found(make, three, k="q0.01")
    assert {(0, 1), (1, 2), (2, 1)} <= heads(result)
    few = [make.planted(c, strong={1: -1.0}, groups=3) for c in ("facts", "ioi")]
    result = found(make, few, k="q0.0001")
    assert heads(result) == set()
    assert "no component has a q-value up to 0.0001" in result["sets"][0]["notes"][0]


def test_a_signed_ranking_needs_a_metric_with_a_side(make, three):
    grids, examples = make.measured(three)
    object.__setattr__(grids[0], "metrics", ("entropy",))
    result = find_invariants(grids, examples, SweepConfig(direction=EffectSign.hurts), ["entropy"])
    assert result["heads"] == []
    assert "entropy has no side that hurts" in result["sets"][0]["notes"][0]


def test_one_condition_compares_nothing(make):
    [entry] = found(make, [make.planted("facts", strong={1: -1.0})], k=1)["sets"]
    assert entry["size"] == 1
    assert entry["agreement"] is None
    assert entry["chance"] == []
    assert "nothing is compared" in entry["notes"][0]


def test_independent_conditions_are_beyond_chance_no_more_often_than_said(make):
    """The null as it is stated: top sets that have nothing to do with each other."""
    hits = 0
    for draw in range(200):
        rng = np.random.default_rng(draw)
        strong = [dict.fromkeys(rng.choice(40, 8, replace=False).tolist(), -1.0) for _ in range(3)]
        mades = [make.planted(c, draw, strong=s, layers=10, heads=4, groups=4) for c, s in zip("abc", strong, strict=True)]
        result = found(make, mades, k=8, n_resamples=1)
        hits += result["sets"][0]["chance"][1]["beyond_chance"]
    assert hits <= 18  # of 200; more has probability .01 at a rate of .05


def test_a_conserved_set_is_beyond_chance(make):
    conserved = dict.fromkeys(range(0, 40, 5), -1.0)
    mades = [make.planted(c, strong=conserved, layers=10, heads=4) for c in "abc"]
    result = found(make, mades, k=8)
    assert heads(result) == {(i // 4, i % 4) for i in conserved}
    for chance in result["sets"][0]["chance"]:
        assert chance["null"]
        assert chance["beyond_chance"]
        assert chance["expected"] < 8


def test_heads_without_any_effect_are_not_conserved_however_much_noise_is_shared(make):
    """Noise of the conditions correlates by .8: random sets of the same size are exceeded nearly always."""
    beyond = {"flips": 0, "random sets": 0}
    kept = unresolved = 0
    for draw in range(40):
        rng = np.random.default_rng(draw)
        noise = np.exp(rng.normal(size=(40, 1))) * rng.normal(size=(40, 12))
        mades = []
        for condition in "ab":
            own = 0.9 * noise + 0.44 * np.exp(rng.normal(size=(40, 1))) * rng.normal(size=(40, 12))
            made = make.planted(condition, draw, layers=10, heads=4, groups=12, per_group=1)
            mades.append(make.replace(made, effects=own, dataset="same"))
        [entry] = found(make, mades, k=8, n_resamples=1)["sets"]
        flips, uniform, _ = entry["chance"]
        beyond["flips"] += flips["beyond_chance"]
        beyond["random sets"] += uniform["beyond_chance"]
        kept += entry["size"]
        unresolved += len(entry["unresolved"])
    assert beyond["random sets"] > 30
    assert beyond["flips"] <= 5  # of 40; more has probability .01 at a rate of .05
    assert kept == 0
    assert unresolved > 100


def test_a_metric_without_a_test_says_so(make, three):
    grids, examples = make.measured(three)
    object.__setattr__(grids[0], "metrics", ("kl_div",))
    [entry] = find_invariants(grids, examples, SweepConfig(k=4), ["kl_div"])["sets"]
    assert any("not tested" in note and "never below 0" in note for note in entry["notes"])
    assert entry["members"][0]["q_value"] is None


def test_layers_alone_are_not_beyond_the_null_by_layer(make):
    """All of the effect is in layer 0, on heads that have nothing in common."""
    hits = {"uniform": 0, "layers": 0}
    for draw in range(60):
        rng = np.random.default_rng(draw)
        strong = [dict.fromkeys(rng.choice(8, 4, replace=False).tolist(), -1.0) for _ in range(2)]
        mades = [make.planted(c, draw, strong=s, layers=5, heads=8, groups=4) for c, s in zip("ab", strong, strict=True)]
        _, uniform, layers = found(make, mades, k=4, n_resamples=1)["sets"][0]["chance"]
        hits["uniform"] += uniform["beyond_chance"]
        hits["layers"] += layers["beyond_chance"]
    assert hits["uniform"] > 30
    assert hits["layers"] <= 8


def test_stability_by_a_plain_loop(make, tmp_path):
    """The share of draws of groups in which a head is in the top set, from the files, one draw at a time."""
    mades = [make.planted(c, s, strong={1: -0.1, 5: 0.08}, groups=6, noise=0.1) for c in ("facts", "ioi") for s in (0, 1)]
    make.write_sweep(tmp_path, mades, k=3, n_resamples=4000)
    aggregate_sweep(tmp_path)
    entry = read_json(SweepDir(tmp_path).cross / "invariants.json")["sets"][0]
    rng, facts = np.random.default_rng(0), mades[:2]
    groups = sorted(set(facts[0].groups))
    returned = np.zeros(12)
    for _ in range(4000):
        drawn = rng.choice(groups, len(groups))
        columns = [j for g in drawn for j, own in enumerate(facts[0].groups) if own == g]
        mean = np.mean([made.effects[:, columns].mean(1) for made in facts], axis=0)
        returned[np.argsort(-np.abs(mean))[:3]] += 1 / 4000
    shown = {m["layer"] * 3 + m["head"]: m["stability"] for m in entry["conditions"][0]["members"]}
    assert shown == pytest.approx({i: returned[i] for i in shown}, abs=0.035)
    assert min(shown.values()) < 0.97  # the case is not trivial


def test_models_are_not_mixed(make, tmp_path):
    small = [make.planted(f"small/{c}", strong={1: -1.0}, model="small") for c in ("facts", "ioi")]
    large = [make.planted(f"large/{c}", strong={1: -1.0}, model="large", layers=6) for c in ("facts", "ioi")]
    aggregate_sweep(make.write_sweep(tmp_path, [*small, *large], k=1))
    result = read_json(SweepDir(tmp_path).cross / "invariants.json")
    assert result["heads"] == [{"layer": 0, "head": 1, "model": "small"}, {"layer": 0, "head": 1, "model": "large"}]
    assert [e["n_components"] for e in result["sets"]] == [12, 18]


def test_heads_are_those_of_every_metric(make, tmp_path):
    make.write_sweep(
        tmp_path, [make.planted(c, strong={1: -1.0, 5: 0.9}) for c in ("facts", "ioi")], k=1, metrics=["logit_diff", "p_drop"]
    )
    both = sweep_invariants(tmp_path, lambda cfg: cfg)
    assert (both["heads"], len(both["sets"])) == ([{"layer": 0, "head": 1}], 2)
    none = sweep_invariants(tmp_path, lambda cfg: SweepConfig(k=1, metrics=["logit_diff", "wrong"]))
    assert "no run has the metric wrong" in none["notes"]


def test_rankings_of_nothing_but_ties_have_no_agreement_and_whoever_reads_them_says_none(make):
    """Such as where no effect came of anything; a screened sweep ended in a traceback."""
    planted = [make.planted(condition) for condition in ("facts", "ioi")]
    mades = [make.replace(made, effects=np.zeros_like(made.effects)) for made in planted]
    result = json.loads(to_json(found(make, mades, k=1)))
    [entry] = result["sets"]
    assert entry["agreement"]["kendalls_w"] is None
    [sentence] = conserved(result)
    assert "Kendall" not in sentence
    assert "Kendall's W -," in "".join(_lines(result))
    assert not any("ranking" in line for line in _alike(entry))


def test_no_randomness_between_calls(make, three):
    one, two = (found(make, three, k=4, op=SetOperation.majority) for _ in range(2))
    assert repr(one) == repr(two)


def test_opposite_effects_are_said(make):
    mades = [make.planted(c, strong={1: -1.0, 5: sign * 0.8}) for c, sign in (("facts", 1), ("ioi", -1))]
    [entry] = found(make, mades, k=2)["sets"]
    assert [m["same_sign"] for m in entry["members"]] == [True, False]
    assert "1 of the kept components have effects of different signs" in entry["notes"][0]
    assert heads(found(make, mades, k=2, direction=EffectSign.hurts)) == {(0, 1)}


def screened(make, condition, chosen, drawn, strong):
    """A run that measured `chosen` heads for their estimates and `drawn` ones as controls."""
    made = make.planted(condition, strong=strong)
    effects = np.where(np.isin(np.arange(12), [*chosen, *drawn])[:, None], made.effects, np.nan)
    return make.replace(made, effects=effects, chosen=frozenset((i // 3, i % 3) for i in chosen))


def test_a_head_that_screening_drew_at_random_is_no_invariant(make):
    """Of the heads that both measured, 1 was chosen in both, 5 in one, 9 was drawn in both; all are strong."""
    strong = {1: -1.0, 5: -1.0, 9: -1.0}
    mades = [screened(make, "facts", [1, 5, 2], [9, 0], strong), screened(make, "ioi", [1, 7], [9, 5], strong)]
    result = found(make, mades, k=10)
    assert heads(result) == {(0, 1)}
    [entry] = result["sets"]
    assert [{m["layer"] * 3 + m["head"] for m in c["members"]} for c in entry["conditions"]] == [{1, 5, 2}, {1, 7}]
    assert entry["n_components"] == 12
    assert "drew at random" in entry["notes"][0]
    [other] = found(make, mades, k=10, op=SetOperation.union)["sets"]
    assert {m["layer"] * 3 + m["head"] for m in other["members"]} == {1, 5}
    assert {m["layer"] * 3 + m["head"] for m in other["unresolved"]} == {2, 7}


def test_what_another_screening_chose_and_a_run_did_not_measure_is_told(make):
    strong = {1: -1.0}
    mades = [screened(make, "facts", [1, 5], [9], strong), screened(make, "ioi", [1, 7], [5], strong)]
    [entry] = found(make, mades, k=10)["sets"]
    [note] = [note for note in entry["notes"] if "screen_also" in note]
    assert note.startswith("facts: 1 components that the screening of another condition chose were not measured here")
    same = [screened(make, condition, [1, 5], [9], strong) for condition in ("facts", "ioi")]
    [entry] = found(make, same, k=10)["sets"]
    assert not any("screen_also" in note for note in entry["notes"])


def test_nothing_is_conserved_where_only_controls_were_measured_in_all(make):
    mades = [screened(make, "facts", [1], [9], {9: -1.0}), screened(make, "ioi", [7], [9], {9: -1.0})]
    [entry] = found(make, mades, k=10)["sets"]
    assert entry["members"] == []
    assert entry["agreement"] is None


def test_a_run_that_left_components_out_says_nothing_of_them(make):
    """`ablation.layers` is no screening."""
    mades = [make.planted(c, strong={1: -1.0, 5: -0.5}) for c in ("facts", "ioi")]
    mades[0] = make.replace(mades[0], effects=np.where(np.arange(12)[:, None] == 1, np.nan, mades[0].effects))
    [entry] = found(make, mades, k=1)["sets"]
    assert entry["n_components"] == 11
    assert [(m["layer"], m["head"]) for m in entry["members"]] == [(1, 2)]
