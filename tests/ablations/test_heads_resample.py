"""heads_resample against the reference, its donors, draws and their variance, and what it refuses."""

from collections import Counter

import numpy as np
import pytest
import torch

from tests.ablations.conftest import checked
from tests.conftest import SHAPES
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.shared.resample import derangement, draw_donors
from tiny_ablation.ablations.single_site import HeadsResampleConfig, Unmatched
from tiny_ablation.config.seeds import generator
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric

ABLATION = find_ablation("heads_resample")


def config(**keys):
    return HeadsResampleConfig(kind="heads_resample", **keys)


def prompt(*ids, name="p"):
    return Prompt(ids, (1,), (2,), {}, name)


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("component", ["z", "q", "k", "v"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(toy_networks, make_pairs, make_context, against_reference, shape, component, positions):
    network = toy_networks[shape]
    prompts, _ = make_pairs(network.shape.d_vocab, n=7, lengths=(5, 6))
    cfg = config(component=component, positions=positions, draws=2)
    (arm,) = ABLATION.plan(cfg, make_context(network, prompts))
    n_units = network.shape.n_kv_heads if component in "kv" else network.shape.n_heads
    assert len(arm.rows) == 2 * n_units
    assert {edit.component for row in arm.rows for run in row.runs for edit in run.edits} == {component}
    assert against_reference(network, arm, stride=5) > 0.005


def test_one_value_by_hand(toy_networks, make_context):
    """Two prompts can only swap: the donor's value is read and put in with plain hooks on the plain model."""
    network = toy_networks["llama"]
    (arm,) = ABLATION.plan(config(draws=1, layers=[0], heads=[1]), make_context(network, [prompt(3, 4, 5), prompt(6, 7, 8)]))
    module = network.hf.model.layers[0].self_attn.o_proj
    seen = []

    def read(_module, args):
        seen.append(args[0].unflatten(-1, (network.shape.n_heads, -1))[0, :, 1].clone())

    def put_in(_module, args):
        new = args[0].clone()
        new.unflatten(-1, (network.shape.n_heads, -1))[0, :, 1] = seen[0]
        return (new,)

    with torch.no_grad():
        handle = module.register_forward_pre_hook(read)
        network.hf(input_ids=torch.tensor([[6, 7, 8]]))
        handle.remove()
        handle = module.register_forward_pre_hook(put_in)
        logits = network.hf(input_ids=torch.tensor([[3, 4, 5]])).logits[0, -1]
        handle.remove()
    result = Executor(network, arm.prompts, arm.rows[0].runs, [metric("logit_diff")]).run(0)
    got = result.values["logit_diff"][0, 0].item()
    assert got == pytest.approx((logits[1] - logits[2]).item(), abs=5e-5)
    assert abs(got - result.baseline["logit_diff"][0].item()) > 0.01


def test_donors_are_derangements_within_equal_length():
    lengths = [3, 5, 3, 5, 5, 3, 3]
    prompts = [prompt(*range(n)) for n in lengths]
    draws = draw_donors(prompts, "all", 20, seed=0)
    for donors in draws:
        assert sorted(donors) == list(range(len(prompts)))
        assert all(donor != example for example, donor in enumerate(donors))
        assert [lengths[donor] for donor in donors] == lengths
    assert len({tuple(d) for d in draws}) > 5
    assert draws == draw_donors(prompts, "all", 20, seed=0)
    assert draws != draw_donors(prompts, "all", 20, seed=1)
    assert draws[:2] == draw_donors(prompts, "all", 2, seed=0)  # more draws keep the first


def test_at_the_last_token_every_other_example_can_give():
    prompts = [prompt(*range(n)) for n in (2, 3, 4, 5)]
    for donors in draw_donors(prompts, "last", 5, seed=0):
        assert sorted(donors) == [0, 1, 2, 3]
        assert all(donor != example for example, donor in enumerate(donors))


def test_all_derangements_are_equally_likely():
    rng = generator(0, "test")
    counts = Counter(tuple(derangement(4, rng)) for _ in range(1800))
    assert len(counts) == 9  # there are 9 derangements of 4
    assert min(counts.values()) > 140  # 200 expected each, standard deviation 13


def test_values_are_means_over_draws_and_their_variance_is_told(run_toy):
    run = run_toy(config(draws=3, positions="last", layers=[0]))
    (measured,), draws, impact = run.measured, run.tables.more["draws"], run.tables.impact
    assert len(draws) == 4 * 3 * 2  # heads, draws, metrics
    for row in impact[impact["metric"] == "logit_diff"].to_dict("records"):
        mine = draws[(draws["head"] == row["head"]) & (draws["metric"] == "logit_diff")]
        assert sorted(mine["draw"]) == [0, 1, 2]
        assert mine["delta"].mean() == pytest.approx(row["delta"])
        assert mine["value"].mean() == pytest.approx(row["value"])
        assert mine["variance"].iloc[0] == pytest.approx(np.var(mine["delta"], ddof=1))
        assert mine["variance"].iloc[0] > 0
    # Each draw is what the engine gives for it alone.
    arm = run.prepared.arms[0]
    alone = [Executor(run.prepared.network, arm.prompts, [arm.rows[1].runs[draw]], [metric("logit_diff")]) for draw in range(3)]
    values = [np.mean([v for result in e for v in result.values["logit_diff"][0].tolist()]) for e in alone]
    np.testing.assert_allclose(measured.draws["logit_diff"][1], values, atol=5e-5)


def test_the_donors_stand_in_the_summary(run_toy):
    from tiny_ablation.run.summary import run_summary

    run = run_toy(config(draws=2, positions="last", layers=[0]))
    donors = run_summary(run.prepared, run.measured, run.tables)["notes"]["donors"]
    ids = [t.example.id for t in run.prepared.tokens]
    assert len(donors) == 2
    for of in donors:
        assert list(of) == ids
        assert sorted(of.values()) == sorted(ids)
        assert all(example != donor for example, donor in of.items())
    clean = {t.example.id: t.clean_ids for t in run.prepared.tokens}
    for draw, of in zip(run.prepared.arms[0].rows[0].runs, donors, strict=True):
        assert draw.edits[0].replacement.sources == tuple(clean[of[i]] for i in ids)
    assert run.prepared.spec.seed_effect == "examples, donors"


def test_one_draw_has_no_variance_to_tell(run_toy):
    assert "draws" not in run_toy(config(draws=1, positions="last", layers=[0])).tables.more


def test_a_length_that_no_other_example_has(toy_networks, make_context):
    context = make_context(toy_networks["llama"], [prompt(1, 2), prompt(3, 4), prompt(5, 6, 7, name="q7")])
    with pytest.raises(ConfigError, match=r"1 of 3 examples.*q7 \(3 tokens\).*unmatched=skip.*positions=last"):
        ABLATION.plan(config(), context)
    assert ABLATION.excluded_examples(config(), context) == {}
    assert ABLATION.excluded_examples(config(unmatched=Unmatched.skip), context) == {2: "no other example has 3 tokens"}
    assert ABLATION.plan(config(positions="last"), context)


def test_skipped_examples_are_counted(run_toy):
    prepared = run_toy(config(unmatched=Unmatched.skip, layers=[0]), n_examples=16).prepared
    lengths = Counter(len(t.clean_ids) for t in prepared.tokens)
    assert min(lengths.values()) >= 2
    assert len(prepared.tokens) + len(prepared.skipped) == 16
    assert prepared.skipped


def test_one_example_has_no_other(toy_networks, make_context):
    with pytest.raises(ConfigError, match="at least 2"):
        ABLATION.plan(config(positions="last"), make_context(toy_networks["llama"], [prompt(1, 2)]))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"draws": 0}, r"ablation\.draws=0"),
        ({"component": "x"}, r"ablation\.component=x"),
        ({"layers": []}, "the list is empty"),
    ],
)
def test_wrong_settings_are_refused_before_the_model(keys, message):
    with pytest.raises(ConfigError, match=message):
        checked(ABLATION, config(**keys))


def test_at_the_last_token_prefixes_stay_shared(toy_networks, make_context):
    """Donors only matter where they are put in; the tokens before are computed once for all prompts."""
    network = toy_networks["llama"]
    prompts = [prompt(*stem, i) for stem in ((3, 4, 5), (8, 9, 5)) for i in (6, 7)]
    sizes = {}
    for positions in ("all", "last"):
        (arm,) = ABLATION.plan(config(positions=positions, draws=3), make_context(network, prompts))
        runs = [run for row in arm.rows for run in row.runs]
        sizes[positions] = Executor(network, prompts, runs, [metric("logit_diff")], shared=True).batches[0].n_nodes
    assert sizes["last"] == 2 * (3 + 2)
    assert sizes["all"] > sizes["last"]
