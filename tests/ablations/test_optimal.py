"""heads_optimal, attn_optimal and mlp_optimal: what was learned, against the reference, and what it may cost at most."""

import pytest
import torch

from tests.ablations.conftest import checked
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.constants import Constants
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.run.plan import ReferenceSet

KINDS = ("heads_optimal", "attn_optimal", "mlp_optimal")
KL = [metric("kl_div")]


def planned(kind, context, **keys):
    ablation = find_ablation(kind)
    cfg = ablation.config(kind=kind, **keys)
    checked(ablation, cfg)
    [arm] = ablation.plan(cfg, context)
    return arm


def learned_of(arm):
    return arm.rows[0].intervention.edits[0].replacement.lookup.learned


@pytest.fixture(scope="module")
def contexts(make_pairs, make_context):
    """A context whose reference prompts are others than those that are evaluated."""

    def make(network, n_reference=6, full=False):
        clean, _ = make_pairs(network.shape.d_vocab)
        others, _ = make_pairs(network.shape.d_vocab, n=n_reference, seed=1)
        held = ReferenceSet(others, [""] * len(others), ["train"] * len(others), len(others))
        return make_context(network, clean, reference=held, full=full)

    return make


@pytest.mark.parametrize("shared", [True, False], ids=["tree", "buckets"])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_reference(toy_networks, contexts, against_reference, kind, shared):
    network = toy_networks["llama"]
    for positions in ("all", "last"):
        arm = planned(kind, contexts(network), steps=2, positions=positions)
        assert arm.rows[0].described.value == "optimal"
        assert against_reference(network, arm, shared=shared) > 0.01


def loss(network, prompts, intervention, full):
    """The mean divergence on prompts, by the bare model."""
    name = "seq_kl_mean" if full else "kl_div"
    bare = Reference(Bare(network.hf), prompts, [metric(name)], full=full)
    return sum(bare.values(intervention, e)[name] for e in range(len(prompts))) / len(prompts)


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("kind", KINDS)
def test_costs_at_most_what_zero_and_the_mean_cost(toy_networks, contexts, kind, positions):
    """On what it was learned on, by definition; the losses that are told are those of the bare model, here and held out."""
    network = toy_networks["gpt2"]
    context = contexts(network, n_reference=5)  # as many as are evaluated, so that the overall mean serves both
    arm = planned(kind, context, steps=8, positions=positions)
    mean = {
        row.key.get("head", 0): row.intervention.edits[0]
        for row in planned(kind.replace("optimal", "mean"), context, layers=[1], positions=positions).rows
    }
    gained = 0.0
    for (_, layer), (units, found) in learned_of(arm).items():
        zero, middle, best = (found.losses[name] for name in ("zero", "mean", "optimal"))
        assert (best <= middle).all()
        assert (best <= zero).all()
        gained += (middle - best).sum().item()
        if layer != 1:
            continue
        for i, unit in enumerate(units):
            row = next(r for r in arm.rows if r.key["layer"] == 1 and r.key.get("head", 0) == unit)
            edit = row.intervention.edits[0]
            zeroed = Edit(edit.component, 1, edit.unit, Scale(0.0), positions)
            for name, made in (("zero", zeroed), ("mean", mean[unit]), ("optimal", edit)):
                run = Intervention((made,))
                for prompts, told in ((context.reference(9).prompts, found.losses), (context.clean, found.held_out)):
                    assert loss(network, prompts, run, False) == pytest.approx(told[name][i].item(), abs=2e-5)
    assert gained > 1e-3


def test_a_minimum_that_is_known_is_reached(toy_networks, contexts):
    """One prompt has one value at the last token, which costs nothing: descent from the mean over all tokens nears it."""
    network = toy_networks["llama"]
    context = contexts(network, n_reference=1)
    arm = planned("mlp_optimal", context, steps=150, rate=0.2, positions="last", layers=[0])
    [(_, found)] = learned_of(arm).values()
    assert found.losses["mean"].item() > 1e-3
    assert found.losses["optimal"].item() < 0.02 * found.losses["mean"].item()


def test_where_zero_is_better_than_all_that_descent_meets_zero_is_taken(toy_networks, contexts, monkeypatch):
    true = Constants._losses

    def losses(self, place, units, at, runs, *, back=False):
        found, grads = true(self, place, units, at, runs, back=back)
        return (found if at.any() else torch.zeros_like(found)), grads

    monkeypatch.setattr(Constants, "_losses", losses)
    arm = planned("attn_optimal", contexts(toy_networks["llama"]), steps=2)
    for _, found in learned_of(arm).values():
        assert not found.values.any()


def test_what_is_learned_is_the_same_each_time_and_follows_its_examples(toy_networks, contexts):
    def digest(**keys):
        context = contexts(toy_networks["llama"], **keys)
        return planned("heads_optimal", context, steps=3, layers=[1]).notes["optimal"]["sha256"]

    assert digest() == digest()
    assert digest() != digest(n_reference=5)


def test_whole_answers_are_learned_on_as_they_are_scored(toy_networks, contexts):
    network = toy_networks["llama"]
    context = contexts(network, full=True)
    arm = planned("mlp_optimal", context, steps=2, layers=[0])
    [(_, found)] = learned_of(arm).values()
    edit = arm.rows[0].intervention
    told = found.losses["optimal"].item()
    assert loss(network, context.reference(9).prompts, edit, True) == pytest.approx(told, abs=2e-5)


def test_an_outline_learns_nothing_and_says_what_learning_takes(toy_networks, contexts):
    from dataclasses import replace

    network = toy_networks["llama"]
    before = network.tokens
    arm = planned("heads_optimal", replace(contexts(network), outline=True), steps=5)
    assert network.tokens == before
    assert arm.left_out.operations > 0
    assert "constants of 8 sites" in arm.left_out.what
    assert planned("heads_optimal", contexts(network), steps=1).left_out is None


def test_numbers_that_cannot_be_meant_are_refused(toy_networks, contexts):
    for keys in ({"steps": 0}, {"rate": 0.0}, {"n_reference": 0}):
        with pytest.raises(ConfigError, match=next(iter(keys))):
            planned("mlp_optimal", contexts(toy_networks["llama"]), **keys)


@pytest.mark.slow
def test_a_run_tells_the_losses_and_keeps_the_constants(cli_run):
    import pandas as pd

    from tiny_ablation.store.reader import load_run

    directory, impact = cli_run("ablation=mlp_optimal", "ablation.steps=2", "ablation.n_reference=4")
    table = pd.read_parquet(directory / "metrics" / "optimal.parquet")
    assert set(impact["replacement"]) == {"optimal"}
    assert len(table) == 2
    assert (table["loss_optimal"] <= table[["loss_mean", "loss_zero"]].min(axis=1)).all()
    assert all(len(constant) == 32 for constant in table["constant"])
    summary = load_run(directory).summary
    assert summary["notes"]["optimal"]["losses"]["optimal"] == pytest.approx(table["loss_optimal"].mean())
    assert summary["notes"]["optimal"]["n_held_out"] == 4
    [section] = find_ablation("mlp_optimal").sections(summary)
    assert "4 examples that are not evaluated" in section.text[0]


@pytest.mark.slow
def test_on_the_default_model_optimal_costs_least_then_the_mean_then_zero(smollm2_network, make_context):
    tokenizer = smollm2_network.model.tokenizer
    from tests.ablations.test_default_model import encode

    names = ["France", "Japan", "Spain", "Egypt", "Italy", "Peru", "Kenya", "Norway"]
    prompts = [encode(tokenizer, f"The capital of {name} is", " Paris", " Rome") for name in names]
    held = ReferenceSet(prompts[2:], [""] * 6, ["train"] * 6, 6)
    context = make_context(smollm2_network, prompts[:2], reference=held)
    for kind, keys in (("heads_optimal", {"heads": [0, 3]}), ("attn_optimal", {}), ("mlp_optimal", {})):
        losses = planned(kind, context, layers=[26], steps=10, **keys).notes["optimal"]["losses"]
        assert losses["optimal"] < losses["mean"] < losses["zero"], (kind, losses)
