import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.ledgers import adopt
from tiny_ablation.config.identity import hash_json
from tiny_ablation.config.schema import SweepConfig
from tiny_ablation.errors import ConfigError, ResultsError
from tiny_ablation.store.files import read_json, write_table
from tiny_ablation.store.manifest import read_manifest, write_manifest
from tiny_ablation.store.rundir import RunDir
from tiny_ablation.store.sweepdir import SweepDir
from tiny_ablation.sweep.analysis import aggregate_sweep
from tiny_ablation.sweep.analysis.declared import check_against_plan, check_hypotheses
from tiny_ablation.sweep.analysis.hypotheses import judge_hypotheses

POSITIVE = {"test": "effect_in_all", "head": "0.1", "sign": "positive"}
# Two heads of each of two layers, of 8: C(8, 2)**2 = 784 sets to compare with.
SETS = {"facts": ["0.0", "0.1", "1.0", "1.1"], "ioi": ["0.4", "0.5", "1.4", "1.5"]}
APART = {"test": "double_dissociation", "sets": SETS}
DIFFER = {"test": "profiles_differ", "between": ["facts", "ioi"]}


def judged(make, mades, **hypotheses):
    grids, examples = make.measured(mades)
    cfg = SweepConfig(hypotheses=hypotheses)
    return judge_hypotheses(check_hypotheses(hypotheses), grids, examples, cfg, ["logit_diff"])


def p_value(make, mades, hypothesis):
    return judged(make, mades, it=hypothesis)["hypotheses"][0]["p_value"]


def rate(make, draw, hypothesis, n):
    return np.mean([p_value(make, draw(i), hypothesis) <= 0.05 for i in range(n)])


def pair(make, facts, ioi, seed, **more):
    return [make.planted(c, seed, strong=s, layers=2, heads=8, **more) for c, s in (("facts", facts), ("ioi", ioi))]


# More than .085 of 200 has probability .01 at a rate of .05.
LEVEL = 0.085


def test_effect_in_all_has_its_level(make):
    # The worst case of the null: large in one condition, nothing in the other.
    assert rate(make, lambda i: pair(make, {1: 1.0}, {}, i), POSITIVE, 200) <= LEVEL


def test_effect_in_all_has_power_and_a_side(make):
    there = lambda i: pair(make, {1: 0.1}, {1: 0.1}, i)  # noqa: E731
    assert rate(make, there, POSITIVE, 20) > 0.9
    assert rate(make, there, POSITIVE | {"sign": "hurts"}, 20) == 0  # of logit_diff, a rise helps
    assert rate(make, there, POSITIVE | {"sign": "helps"}, 20) > 0.9


def test_a_component_with_a_mean_and_no_examples_is_a_damaged_table(tmp_path, make):
    """Per-example rows of head 0.1 are gone from one run, whose impact table still has it."""
    sweep = make.write_sweep(tmp_path, pair(make, {1: 1.0}, {1: 1.0}, 0), hypotheses={"it": POSITIVE})
    [path] = (tmp_path / "ioi").rglob("per_example.parquet")
    rows = pd.read_parquet(path)
    write_table(path, rows[(rows["layer"] != 0) | (rows["head"] != 1)])
    adopt(path.parents[1])
    write_manifest(RunDir(path.parents[1]), run_id="it", status="ok", digest="ioi-0", covers={}, error=None)
    with pytest.raises(ResultsError, match=r"ioi.*per_example.parquet is damaged: it has no logit_diff of .*'head': 1"):
        aggregate_sweep(sweep)


def test_effect_in_all_by_hand(make):
    """Four groups are tested by Student's t, and p is the larger of the conditions'."""
    facts, ioi = pair(make, {1: 1.0}, {1: 1.0}, 0, groups=4)
    effects = ioi.effects.copy()
    effects[1] = np.repeat([1.0, 1.0, 1.0, -0.5], 2)
    changed = make.replace(ioi, effects=effects)
    expected = stats.ttest_1samp([1.0, 1.0, 1.0, -0.5], 0).pvalue
    assert p_value(make, [facts, changed], POSITIVE) == pytest.approx(expected)
    own = stats.ttest_1samp(facts.effects[1].reshape(4, 2).mean(1), 0).pvalue
    assert p_value(make, [facts, changed], POSITIVE | {"conditions": ["facts"]}) == pytest.approx(own)
    assert p_value(make, [facts, changed], POSITIVE | {"sign": "negative"}) == 1


def test_a_skewed_condition_without_effect_is_not_found(make):
    """One condition is clear, the other null and skewed: one-sided sign flips find it in 10 to 20 % of these."""

    def draw(seed):
        facts, ioi = pair(make, {1: 5.0}, {}, seed, groups=12)
        skewed = 1 - np.random.default_rng(seed).exponential(size=12)
        effects = ioi.effects.copy()
        effects[1] = np.repeat(skewed, len(ioi.groups) // 12)
        return [facts, make.replace(ioi, effects=effects)]

    assert rate(make, draw, POSITIVE, 200) <= LEVEL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("facts", "ioi"),
    [
        ({}, {}),
        (dict.fromkeys([0, 1, 8, 9], -1.0), {}),  # only one of the two sets is specific
        (dict.fromkeys(range(16), -1.0), {}),  # all heads hurt facts more: no set stands out
    ],
)
def test_double_dissociation_has_its_level(make, facts, ioi):
    assert rate(make, lambda i: pair(make, facts, ioi, i), APART, 100) <= 0.11  # .01 of that at a rate of .05


def test_double_dissociation_has_power_and_needs_its_own_sides(make):
    a, b = dict.fromkeys([0, 1, 8, 9], -0.5), dict.fromkeys([4, 5, 12, 13], -0.5)
    assert rate(make, lambda i: pair(make, a, b, i), APART, 10) == 1
    assert rate(make, lambda i: pair(make, b, a, i), APART, 10) == 0
    [part, _] = judged(make, pair(make, a, b, 0), it=APART)["hypotheses"][0]["parts"]
    assert part["hurts_own"] == pytest.approx(0.5, abs=0.05)
    assert part["difference"] == pytest.approx(part["hurts_own"] - part["hurts_other"])
    # 4 of 16 heads hurt by .5, as many in each layer: random sets hurt by .125 on average, less what the others do.
    assert part["random_sets"] == pytest.approx(0, abs=0.05)
    assert part["p_random_sets"] == pytest.approx(1 / 784, abs=0.002)


def test_few_random_sets_are_said(make):
    one = {"test": "double_dissociation", "sets": {"facts": ["0.0"], "ioi": ["0.4"]}}
    [result] = judged(make, pair(make, {0: -1.0}, {4: -1.0}, 0), it=one)["hypotheses"]
    assert result["p_value"] == pytest.approx(1 / 8, abs=0.02)
    assert "only 8 sets have its size and layers" in result["notes"][0]


def test_profiles_differ_has_its_level(make):
    same = dict.fromkeys([1, 5, 9], -1.0)
    assert rate(make, lambda i: pair(make, same, same, i), DIFFER, 100) <= 0.11


def test_profiles_differ_has_power(make):
    assert rate(make, lambda i: pair(make, {1: 1.0}, {1: 1.2}, i), DIFFER, 10) > 0.8


def paired(make, seed, back_effect):
    """Two directions on the same examples; the second turned around."""
    forth = make.planted("c2x", seed, strong={1: 1.0}, layers=2, heads=8, dataset="facts")
    noise = make.planted("x", seed + 1000, layers=2, heads=8).effects
    back = make.replace(forth, condition="x2c", effects=noise - forth.effects)
    back.effects[1] -= back_effect
    return [forth, back]


@pytest.mark.parametrize(("effect", "expected"), [(0.0, "level"), (0.3, "power")])
def test_profiles_on_the_same_examples_are_compared_group_by_group(make, effect, expected):
    spec = {"test": "profiles_differ", "between": ["c2x", "x2c"], "mirror": True}
    found = rate(make, lambda i: paired(make, i, effect), spec, 100 if expected == "level" else 10)
    assert found <= 0.11 if expected == "level" else found > 0.8
    [result] = judged(make, paired(make, 0, effect), it=spec)["hypotheses"]
    assert result["parts"][0]["paired"]


def test_q_values_are_over_the_family(make):
    mades = pair(make, {1: 1.0}, {1: 1.0}, 0, groups=4)
    result = judged(make, mades, a=POSITIVE, b=POSITIVE | {"sign": "negative"}, c=POSITIVE | {"head": "9.9"})
    a, b, c = result["hypotheses"]
    assert result["family_size"] == 2
    assert a["q_value"] == pytest.approx(2 * a["p_value"])
    assert (b["supported"], c["supported"]) == (False, None)
    assert np.isnan(c["p_value"])
    assert c["notes"] == ["not tested: facts has not measured it"]


@pytest.mark.parametrize("condition", ["sva", "negation"])
def test_a_condition_that_did_not_finish(make, condition):
    spec = {"test": "profiles_differ", "between": ["facts", condition]}
    [result] = judged(make, pair(make, {}, {}, 0), it=spec)["hypotheses"]
    assert result["notes"] == [f"not tested: no run of {condition} finished"]


def test_every_p_value_names_its_null(make):
    result = judged(make, pair(make, {}, {}, 0), a=POSITIVE, b=APART, c=DIFFER)
    for each in result["hypotheses"]:
        assert len(each["null"]) > 20
        assert each["statement"]


def test_from_files_the_digest_is_in_the_manifest(make, tmp_path):
    hypotheses = {"a": POSITIVE, "b": APART, "c": DIFFER}
    mades = [m for seed in (0, 1) for m in pair(make, {1: 1.0}, {1: 1.0}, seed)]
    aggregate_sweep(make.write_sweep(tmp_path, mades, hypotheses=hypotheses))
    stored = read_json(SweepDir(tmp_path).cross / "hypotheses.json")
    assert stored["digest"] == hash_json(hypotheses) == read_manifest(tmp_path).covers["hypotheses_digest"]
    assert stored["declared"] == hypotheses
    assert stored["hypotheses"][0]["supported"] is True
    assert stored["hypotheses"][0]["parts"][0]["n_seeds"] == 2


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("yes", ("mine.test=yes", "double_dissociation")),
        ({"test": "t_test"}, ("mine.test=t_test", "effect_in_all")),
        ({"test": "effect_in_all", "head": "0.1"}, ("mine.sign", "missing")),
        (POSITIVE | {"sign": "up"}, ("mine.sign=up", "positive")),
        (POSITIVE | {"head": 0.1}, ("mine.head", "quote")),
        (POSITIVE | {"head": "x"}, ("mine.head", "'x'")),
        (POSITIVE | {"layer": 3}, ("mine", "one component")),
        (POSITIVE | {"head": None, "layer": -1}, ("mine.layer=-1",)),
        (POSITIVE | {"colour": 1}, ("mine.colour",)),
        (POSITIVE | {"conditions": ["facts", "sva"]}, ("mine.conditions", "sva", "facts, ioi")),
        (POSITIVE | {"conditions": "facts"}, ("mine.conditions", "list")),
        (POSITIVE | {"metric": "nope"}, ("mine.metric=nope", "logit_diff")),
        (POSITIVE | {"sign": "hurts", "metric": "entropy"}, ("mine.metric=entropy", "no side")),
        (APART | {"sets": {"facts": ["0.1"]}}, ("mine.sets", "two conditions")),
        (APART | {"sets": {"facts": ["0.1", "L0H1"], "ioi": ["0.2"]}}, ("mine.sets.facts", "more than once")),
        (APART | {"sets": {"facts": [], "ioi": ["0.2"]}}, ("mine.sets.facts",)),
        (DIFFER | {"between": ["facts"]}, ("mine.between", "two conditions")),
        (DIFFER | {"between": ["facts", "facts"]}, ("mine.between",)),
        (DIFFER | {"mirror": "yes"}, ("mine.mirror=yes",)),
    ],
)
def test_malformed_hypotheses_are_refused_with_their_key(spec, words):
    with pytest.raises(ConfigError) as caught:
        check_hypotheses({"mine": spec}, ["facts", "ioi"])
    for word in ("sweep.hypotheses.", *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_well_formed_ones_pass():
    declared = {"a": POSITIVE, "b": APART, "c": DIFFER, "d": POSITIVE | {"head": None, "layer": 2, "granularity": "mlp_out"}}
    assert [h.name for h in check_hypotheses(declared, ["facts", "ioi"], ["logit_diff"])] == ["a", "b", "c", "d"]
    assert check_hypotheses(None) == []
    with pytest.raises(ConfigError, match="give a name"):
        check_hypotheses([POSITIVE])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metrics": ["kl_div"]}, ("sweep.metrics=kl_div", "logit_diff")),
        ({"metrics": ["entropy"], "direction": "hurts"}, ("sweep.direction=hurts", "entropy")),
        ({"hypotheses": {"a": DIFFER | {"between": ["facts", "sva"]}}}, ("sweep.hypotheses.a.between", "sva")),
        ({"hypotheses": {"a": DIFFER | {"metric": "kl_div"}}}, ("sweep.hypotheses.a.metric=kl_div", "logit_diff")),
    ],
)
def test_what_the_planned_runs_cannot_answer_is_refused(settings, words):
    plain = {"metrics": None, "direction": "both", "hypotheses": {"a": POSITIVE}}
    check_against_plan(plain, ["facts", "ioi"], ["logit_diff", "entropy"])
    with pytest.raises(ConfigError) as caught:
        check_against_plan(plain | settings, ["facts", "ioi"], ["logit_diff", "entropy"])
    for word in words:
        assert word in str(caught.value)
