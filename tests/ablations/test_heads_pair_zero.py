"""heads_pair_zero against the reference, its interaction by hand, and what it refuses."""

import numpy as np
import pytest

from tests.ablations.conftest import checked
from tests.conftest import SHAPES
from tiny_ablation.ablations.pairs import HeadsPairZeroConfig
from tiny_ablation.ablations.pairs.interaction import sections
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.single_site import HeadsScaleConfig
from tiny_ablation.errors import ConfigError, ResultsError
from tiny_ablation.run.plan import Arm
from tiny_ablation.store.reader import load_run

ABLATION = find_ablation("heads_pair_zero")


def config(**keys):
    return HeadsPairZeroConfig(kind="heads_pair_zero", **keys)


def keys_of(arm: Arm):
    return [tuple(row.key.values()) for row in arm.rows]


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(toy_networks, make_prompts, make_context, against_reference, shape, positions):
    network = toy_networks[shape]
    context = make_context(network, make_prompts(network.shape.d_vocab, n=3))
    cfg = config(of=["0.1", "0.2", "1.0", "1.3"], positions=positions)  # within and across layers
    for arm in ABLATION.plan(cfg, context):
        assert against_reference(network, arm) > 0.1


def test_pairs_and_the_heads_in_them(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    pairs, singles = ABLATION.plan(config(pairs=[["1.3", 0.1], ["L0H1", "L0H2"]]), context)
    assert keys_of(pairs) == [(0, 1, 1, 3), (0, 1, 0, 2)]
    assert keys_of(singles) == [(0, 1, 0, 1), (0, 2, 0, 2), (1, 3, 1, 3)]
    assert not singles.in_table
    assert {len(row.intervention.edits) for row in pairs.rows} == {2}
    assert {len(row.intervention.edits) for row in singles.rows} == {1}
    every, _ = ABLATION.plan(config(of=[1.3, 0.1, 0.2]), context)
    assert keys_of(every) == [(0, 1, 0, 2), (0, 1, 1, 3), (0, 2, 1, 3)]


def test_interaction_by_hand(run_toy):
    run = run_toy(config(of=["0.1", "1.2", "1.3"]))
    table = run.examples
    effect = table["logit_diff"] - table["logit_diff_baseline"]
    mean = effect.groupby([table[c] for c in ("layer_a", "head_a", "layer_b", "head_b")]).mean()
    impact = run.tables.impact[run.tables.impact["metric"] == "logit_diff"].set_index(
        ["layer_a", "head_a", "layer_b", "head_b"]
    )
    assert len(impact) == 3  # single heads are in the per-example table only
    for a, b in (((0, 1), (1, 2)), ((0, 1), (1, 3)), ((1, 2), (1, 3))):
        row = impact.loc[(*a, *b)]
        joint, of_a, of_b = mean[(*a, *b)], mean[(*a, *a)], mean[(*b, *b)]
        assert row["delta"] == pytest.approx(joint)
        assert row["delta_a"] == pytest.approx(of_a)
        assert row["delta_b"] == pytest.approx(of_b)
        assert row["interaction"] == pytest.approx(joint - of_a - of_b)
        assert row["interaction_low"] < row["interaction"] < row["interaction_high"]
        assert min(abs(joint), abs(of_a), abs(of_b), abs(row["interaction"])) > 1e-4


def test_single_effects_are_those_of_heads_zero(run_toy):
    pairs = run_toy(config(pairs=[["0.1", "1.2"]])).tables.impact
    heads = run_toy(HeadsScaleConfig(kind="heads_zero", scales=[0.0])).tables.impact.set_index(["metric", "layer", "head"])
    for row in pairs.to_dict("records"):
        assert row["delta_a"] == pytest.approx(heads.loc[(row["metric"], 0, 1), "delta"], abs=1e-5)
        assert row["delta_b"] == pytest.approx(heads.loc[(row["metric"], 1, 2), "delta"], abs=1e-5)


@pytest.mark.slow
def test_the_strongest_heads_of_an_earlier_run(cli_run, run_toy, tmp_path):
    directory, impact = cli_run("ablation=heads_zero", "ablation.scales=[0.0]")
    rows = impact[impact["metric"] == "logit_diff"]
    order = np.argsort(-rows["delta"].abs().to_numpy(), kind="stable")[:3]
    strongest = sorted(zip(rows["layer"].iloc[order], rows["head"].iloc[order], strict=True))
    run = run_toy(config(from_run=str(directory), top_k=3))
    assert keys_of(run.prepared.arms[1]) == [(*head, *head) for head in strongest]
    assert len(run.prepared.arms[0].rows) == 3
    moved = directory.rename(tmp_path / "moved")
    again = run_toy(config(from_run=str(moved), top_k=3))
    assert again.prepared.identity.digest == run.prepared.identity.digest  # what is read counts, not where it stands
    with pytest.raises(ConfigError, match=r"measured 8 heads, fewer than ablation\.top_k=9"):
        run_toy(config(from_run=str(moved), top_k=9))
    of_pairs, _ = cli_run("ablation=heads_pair_zero", "ablation.of=[0.1,0.2]", directory="pairs")
    with pytest.raises(ConfigError, match="measured no heads one by one"):
        run_toy(config(from_run=str(of_pairs)))


def test_no_earlier_run(run_toy, tmp_path):
    with pytest.raises(ResultsError, match="nowhere"):
        run_toy(config(from_run=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "no heads are named; name heads in one way"),
        ({"pairs": [["0.1", "0.2"]], "of": ["0.1", "0.2"]}, r"ablation\.pairs and ablation\.of are set"),
        ({"pairs": [["0.1"]]}, "names 1 heads; a pair is two"),
        ({"pairs": []}, r"ablation\.pairs=\[\]: the list is empty"),
        ({"of": ["0.1"]}, "there is no pair in it"),
        ({"from_run": "x", "top_k": 1}, r"ablation\.top_k=1: it must be at least 2"),
        ({"of": ["0.1", "0.2"], "positions": "first"}, "choose one of all, last"),
    ],
)
def test_settings_that_name_no_pairs_are_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        checked(ABLATION, config(**keys))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pairs": [["0.1", "L0H1"]]}, "is one head twice"),
        ({"pairs": [["0.1", "0.2"], ["0.2", "0.1"]]}, "more than once"),
        ({"of": ["0.1", "L0H1"]}, "names L0H1 more than once"),
        ({"of": ["0.1", "7.0"]}, "there is no head 7.0"),
        ({"pairs": [["0.1", "one"]]}, "'one' is not a head"),
    ],
)
def test_pairs_that_the_model_has_not_are_refused(toy_networks, make_prompts, make_context, keys, message):
    network = toy_networks["llama"]
    with pytest.raises(ConfigError, match=message):
        ABLATION.plan(config(**keys), make_context(network, make_prompts(network.shape.d_vocab)))


def test_the_redundant_pair_of_a_known_model_is_said_to_stand_in_for_each_other(cli, tmp_path):
    done = cli(
        "model=induction_pair",
        "dataset=induction_tokens",
        "dataset.n_examples=24",
        "ablation=heads_pair_zero",
        "ablation.of=[0.0,0.1,1.0,1.1]",
        "metrics.primary=p_drop",
        "tracking=off",
        "verify=off",
        "stats.n_boot=200",
        "stats.n_perm=2000",
        "hydra.run.dir=run",
    )
    assert done.code == 0
    run = load_run(tmp_path / "run")
    rows = run.impact[(run.impact["metric"] == run.summary["primary"])]
    told = rows[rows["interaction_q"] <= 0.05]
    found = run.summary["interactions"]
    assert found["n"] == len(rows)
    assert sorted(pair["interaction"] for pair in found["pairs"]) == pytest.approx(sorted(told["interaction"]))
    assert "L1H0 + L1H1 stand in for each other: together" in " ".join(done.out.split())


def test_pairs_are_worded_by_which_way_they_depart_from_the_sum():
    def headline(*interactions):
        pairs = [
            {
                "pair": f"L0H0 + L{i}H1",
                "delta_a": -1.0,
                "delta_b": -0.5,
                "interaction": each,
                "interaction_low": each - 0.1,
                "interaction_high": each + 0.1,
                "interaction_q": 0.01,
            }
            for i, each in enumerate(interactions)
        ]
        [section] = sections({"metric": "logit_diff", "n": 6, "pairs": pairs})
        return section.headline

    assert headline(0.9, -0.4).startswith("L0H0 + L1H1 stand in for each other: together they change logit_diff by -1.900")
    assert headline(0.9).startswith("L0H0 + L0H1 overlap:")
    assert headline() == "No two heads are shown to stand in for each other: no pair interacts on logit_diff."
