"""heads_set_zero against the reference, its complement, its random sets, and what it refuses."""

import numpy as np
import pytest

from tests.ablations.conftest import checked
from tests.conftest import SHAPES
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.sets import HeadsSetZeroConfig
from tiny_ablation.ablations.single_site import HeadsScaleConfig
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric

ABLATION = find_ablation("heads_set_zero")

SETS = {"one": [0.1], "across": ["0.1", "L1H2", [1, 3]]}


def config(**keys):
    return HeadsSetZeroConfig(kind="heads_set_zero", **{"sets": SETS, **keys})


def heads_of(row):
    return [(edit.layer, edit.unit) for edit in row.intervention.edits]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(toy_networks, make_prompts, make_context, against_reference, shape, positions, keep):
    network = toy_networks[shape]
    context = make_context(network, make_prompts(network.shape.d_vocab, n=3))
    for arm in ABLATION.plan(config(keep=keep, positions=positions, n_random=2), context):
        assert against_reference(network, arm) > 0.05


def test_named_sets_and_what_is_kept(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    removed, *_ = ABLATION.plan(config(n_random=0), context)
    assert [dict(row.key) for row in removed.rows] == [{"set": "one", "size": 1}, {"set": "across", "size": 3}]
    assert [heads_of(row) for row in removed.rows] == [[(0, 1)], [(0, 1), (1, 2), (1, 3)]]
    (kept,) = ABLATION.plan(config(n_random=0, keep=True), context)
    assert heads_of(kept.rows[1]) == [(0, 0), (0, 2), (0, 3), (1, 0), (1, 1)]
    assert {row.described.granularity for row in kept.rows} == {"complement"}


def test_keeping_every_head_is_the_baseline(run_toy):
    every = [f"L{layer}H{head}" for layer in range(2) for head in range(4)]
    impact = run_toy(config(sets={"all": every}, keep=True)).tables.impact
    assert (impact["delta"] == 0).all()
    assert impact["percentile"].isna().all()


def test_a_set_of_one_head_is_that_head(run_toy):
    sets = run_toy(config(sets={"a": ["1.2"]}, n_random=0)).tables.impact.set_index("metric")
    heads = run_toy(HeadsScaleConfig(kind="heads_zero", scales=[0.0])).tables.impact.set_index(["metric", "layer", "head"])
    for name in ("logit_diff", "kl_div"):
        assert sets.loc[name, "delta"] == pytest.approx(heads.loc[(name, 1, 2), "delta"], abs=1e-5)


def test_percentile_and_controls_by_hand(run_toy):
    run = run_toy(config(n_random=6))
    assert list(run.tables.impact["set"].unique()) == ["one", "across"]  # random sets are no part of the tested family
    assert run.tables.family_size == 2
    impact = run.tables.impact[run.tables.impact["metric"] == "logit_diff"].set_index("set")
    controls = run.tables.more["controls"]
    controls = controls[controls["metric"] == "logit_diff"]
    assert impact["heads"].to_dict() == {"one": "L0H1", "across": "L0H1 L1H2 L1H3"}
    assert controls.groupby("set")["heads"].nunique().to_dict() == {"one": 3, "across": 6}
    assert not set(controls["heads"]) & set(impact["heads"])
    for name, mine in controls.groupby("set"):
        below = (mine["delta"] < impact.loc[name, "delta"]).mean()
        assert impact.loc[name, "percentile"] == pytest.approx(100 * below)
        assert impact.loc[name, "control_mean"] == pytest.approx(mine["delta"].mean())
    # A random set's effect is what the plain reference gives for it.
    row, prepared = controls.iloc[0], run.prepared
    arm = next(arm for arm in prepared.arms if arm.controls_of == row["set"])
    slow = Reference(Bare(prepared.network.hf), arm.prompts, [metric("logit_diff")])
    values = [slow.values(arm.rows[0].intervention, e)["logit_diff"] for e in range(len(arm.prompts))]
    assert row["value"] == pytest.approx(np.mean(values), abs=5e-5)


def test_without_random_sets_there_is_no_table_of_them(run_toy):
    tables = run_toy(config(n_random=0)).tables
    assert "controls" not in tables.more
    assert tables.impact["percentile"].isna().all()


def test_the_effect_of_a_set_is_not_the_sum_of_its_heads(toy_networks, make_prompts, make_context):
    """Edits of several layers are made in one run: the joint effect differs from both single ones and from their sum."""
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    (arm,) = ABLATION.plan(config(sets={"a": [0.1], "b": [1.2], "ab": [0.1, 1.2]}, n_random=0), context)
    plan = [row.intervention for row in arm.rows]
    result = Executor(network, context.clean, plan, [metric("logit_diff")]).run(0)
    a, b, both = (result.values["logit_diff"] - result.baseline["logit_diff"]).mean(1).tolist()
    assert min(abs(both - a), abs(both - b), abs(both - a - b)) > 1e-4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sets": None}, r"ablation\.sets=None: name at least one set"),
        ({"sets": {}}, "name at least one set"),
        ({"sets": [0.1]}, "name at least one set"),
        ({"sets": {"a": []}}, r"ablation\.sets\.a=\[\]: list its heads"),
        ({"sets": {"a": "0.1"}}, r"ablation\.sets\.a=0\.1: list its heads"),
        ({"sets": {"a": ["x"]}}, r"ablation\.sets\.a: 'x' is not a head"),
        ({"sets": {"a": [0.1, "L0H1"]}}, "names L0H1 more than once"),
        ({"n_random": -1}, r"ablation\.n_random=-1"),
        ({"positions": "subject"}, r"ablation\.positions=subject"),
    ],
)
def test_wrong_settings_are_refused_before_the_model(keys, message):
    with pytest.raises(ConfigError, match=message):
        checked(ABLATION, config(**keys))


def test_a_head_that_the_model_does_not_have(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    with pytest.raises(ConfigError, match=r"ablation\.sets\.a: there is no head 0\.4; .*heads 0 to 3"):
        ABLATION.plan(config(sets={"a": [0.4]}), context)
