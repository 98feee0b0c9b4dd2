"""Which sites screening measures, the recall it states, and what it refuses."""

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.ablations.conftest import checked
from tests.interpolated_replacement import Towards
from tiny_ablation.ablations.registry import all_ablations, find_ablation
from tiny_ablation.ablations.shared import pilot
from tiny_ablation.ablations.shared.agreement import recall, receipt
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.ablations.shared.screening import site_of
from tiny_ablation.ablations.single_site import HeadsScaleConfig
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.gradients import AttributionQuery, estimate
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.run.measure import Measured
from tiny_ablation.run.plan import Estimates, InterventionSpec, Row

ABLATION = find_ablation("heads_zero")

ZERO = Scale(0.0)


def measured(arm, values, baseline):
    """What a receipt reads of an arm that was measured."""
    return Measured(arm, np.arange(2), ["a", "b"], values, baseline, np.zeros(2), np.zeros(2))


def config(**keys):
    return HeadsScaleConfig(
        kind="heads_zero",
        screen="attribution",
        **{"screen_top": 2, "screen_random": 3, "screen_pilot": False, "scales": [0.0, 0.5, 1.0], **keys},
    )


def estimates(values, top, sample):
    sites = [(layer, 0) for layer in range(len(values))]
    return Estimates("z", "logit_diff", "gradient", 1, sites, np.array(values), top, sample, ZERO)


def test_keeps_all_rows_of_the_strongest_and_of_a_random_sample(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    (arm,) = ABLATION.plan(config(), make_context(network, prompts))
    found = arm.estimates
    values = estimate(network, prompts, AttributionQuery("z")).mean(-1)
    order = torch.argsort(-values.abs().flatten())[:2].tolist()
    assert list(found.top) == [divmod(i, network.shape.n_heads) for i in order]
    assert len(set(found.sample)) == 3
    assert len(found.sites) == network.shape.n_layers * network.shape.n_heads
    kept = {*found.top, *found.sample}
    assert len(arm.rows) == 3 * len(kept) < 3 * len(found.sites)  # every factor of each
    assert {(row.key["layer"], row.key["head"]) for row in arm.rows} == kept
    assert {site_of(row) for row in arm.rows if row.intervention} == kept
    again, other = (ABLATION.plan(config(), make_context(network, prompts, seed=seed))[0].estimates for seed in (0, 1))
    assert list(again.sample) == list(found.sample)
    assert list(other.sample) != list(found.sample)
    assert list(other.top) == list(found.top)


def test_sites_that_are_named_are_measured_besides(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    (alone,) = ABLATION.plan(config(), context)
    left = sorted({*alone.estimates.sites} - alone.estimates.measured)[0]
    (arm,) = ABLATION.plan(config(screen_also=[f"L{left[0]}H{left[1]}", "L0H0"]), context)
    assert {site_of(row) for row in arm.rows if row.intervention} == {*alone.estimates.measured, left, (0, 0)}
    assert list(arm.estimates.top) == list(alone.estimates.top)
    assert list(arm.estimates.sample) == list(alone.estimates.sample)
    with pytest.raises(ConfigError, match=r"screen_also: L9H9 is none of the 8 sites of this run, .* like L0H0"):
        ABLATION.plan(config(screen_also=["L9H9"]), context)
    layers = planned("mlp_zero", context, screen="attribution", screen_top=1, screen_random=3, screen_also=["L1"])
    assert layers.estimates.also == [(1, 0)]


def test_without_screening_everything_is_measured(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    (arm,) = ABLATION.plan(HeadsScaleConfig(kind="heads_zero"), make_context(network, make_prompts(network.shape.d_vocab)))
    assert arm.estimates is None
    assert len(arm.rows) == network.shape.n_layers * network.shape.n_heads


def test_a_factor_scales_the_estimate(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    whole, quarter = (ABLATION.plan(config(scales=s), context)[0].estimates.values for s in ([0.0, 1.0], [0.75, 1.0]))
    np.testing.assert_allclose(quarter, 0.25 * whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"screen": "magic"}, "screen=magic"), ({"screen_top": 0}, "screen_top=0"), ({"screen_random": 2}, "screen_random=2")],
)
def test_refuses(keys, message):
    with pytest.raises(ConfigError, match=message):
        checked(ABLATION, HeadsScaleConfig(kind="heads_zero", **{"screen": "attribution", **keys}))


def test_screening_with_nothing_but_the_baseline_is_refused(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    with pytest.raises(ConfigError, match="every factor is 1"):
        ABLATION.plan(config(scales=[1.0]), make_context(network, make_prompts(network.shape.d_vocab)))


SCREENED = {
    "heads_mean": {"mean": "position"},
    "heads_resample": {"draws": 2, "positions": "last"},
    "mlp_zero": {},
    "mlp_mean": {},
    "mlp_resample": {"positions": "last"},
    "attn_zero": {"positions": "last"},
    "attn_mean": {},
    "attn_resample": {"draws": 2, "positions": "last"},
}


def planned(name, context, **keys):
    kind = find_ablation(name)
    cfg = kind.config(**{"kind": name, **SCREENED[name], **keys})
    checked(kind, cfg)
    return kind.plan(cfg, context)[0]


def effects(network, arm, share=None):
    """(n_rows,) mean effect of each row over examples and draws; `share` of the way only, where it is given."""
    out = []
    for row in arm.rows:
        runs = [run.edits[0] for run in row.runs]
        edits = runs if share is None else [replace(e, replacement=Towards(share, e.replacement)) for e in runs]
        plan, total = [Intervention((edit,)) for edit in edits], 0.0
        for result in Executor(network, arm.prompts, plan, [metric("logit_diff")]):
            change = result.values["logit_diff"] - result.baseline["logit_diff"]
            total += change.sum().item()
        out.append(total / len(plan) / len(arm.prompts))
    return np.array(out)


@pytest.mark.parametrize("name", SCREENED)
def test_every_kind_estimates_its_own_replacement_and_measures_the_strongest(toy_networks, make_prompts, make_context, name):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab), reference=None)
    every = planned(name, context)
    arm = planned(name, context, screen="attribution", screen_top=1, screen_random=3, screen_pilot=False)
    found = arm.estimates
    assert every.estimates is None
    assert [site_of(row) for row in every.rows] == list(found.sites)
    # The judge: what the exact engine says of a hundredth of the way to each row's own replacements, all draws.
    slope = (effects(network, every, 0.01) - effects(network, every, -0.01)) / 0.02
    assert np.abs(slope).max() > 1e-2
    np.testing.assert_allclose(found.values, slope, rtol=0.02, atol=2e-3)
    assert list(found.top) == [found.sites[int(np.argmax(np.abs(found.values)))]]
    assert {site_of(row) for row in arm.rows} == {*found.top, *found.sample}
    assert {len(row.runs) for row in arm.rows} == {len(every.rows[0].runs)}
    assert arm.notes.keys() == every.notes.keys()
    assert found.passes == len(every.rows[0].runs)  # a backward pass for each draw


@pytest.mark.parametrize("name", SCREENED)
def test_a_pilot_gives_the_exact_effects_of_the_sites_that_it_measures(
    toy_networks, make_prompts, make_context, monkeypatch, name
):
    """On all examples, and with nothing of what estimates missed taken for chance, a corrected estimate is the effect."""
    network = toy_networks["gpt2"]
    context = make_context(network, make_prompts(network.shape.d_vocab), reference=None)
    every = planned(name, context)
    exact = dict(zip((site_of(row) for row in every.rows), effects(network, every), strict=True))
    monkeypatch.setattr(pilot, "ROUNDS", ((1, 0.3), (8, 1.0)))
    monkeypatch.setattr(pilot, "_learned", lambda _, layers: (np.ones(len(layers)), np.zeros(len(layers))))
    found = planned(name, context, screen="attribution", screen_top=1, screen_random=3, screen_pilot=True).estimates
    np.testing.assert_allclose(found.values, [exact[site] for site in found.sites], atol=1e-5)
    assert f"corrected by {len(exact)} sites on up to {len(context.clean)} examples" in found.how
    assert found.pilot_runs == len(exact) * len(every.rows[0].runs)
    assert list(found.top) == [max(exact, key=lambda site: abs(exact[site]))]


def test_a_pilot_finds_what_gradients_miss_in_some_layers():
    """Effects of the first two layers of twelve are large, and gradients see a tenth of them there."""
    rng = np.random.default_rng(0)
    layers = np.repeat(np.arange(12), 10)
    size = rng.normal(size=120) * np.where(layers < 2, 3.0, 0.7)
    exact = size[:, None] + 0.3 * rng.normal(size=(120, 32))
    estimates = exact * np.where(layers < 2, 0.1, 1.0)[:, None] + 0.1 * rng.normal(size=exact.shape)
    strongest = {*np.argsort(-np.abs(exact.mean(1)))[:10].tolist()}
    _, order, runs = pilot.corrected(estimates, layers, 15, lambda new, at: exact[np.ix_(new, at)])
    assert len(strongest & {*order[:15]}) == 10
    assert len(strongest & {*np.argsort(-np.abs(estimates.mean(1)))[:15].tolist()}) <= 4
    assert sorted(runs.tolist())[-61:] == [1] * 1 + [2] * 30 + [4] * 30


def test_only_some_examples_are_run(toy_networks, make_prompts):
    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab)
    plan = [Intervention((Edit("z", 1, 0, ZERO),))]
    whole = {
        i: v
        for r in Executor(network, prompts, plan, [metric("logit_diff")])
        for i, v in zip(r.examples, r.values["logit_diff"][0].tolist(), strict=True)
    }
    some = {
        i: v
        for r in Executor(network, prompts, plan, [metric("logit_diff")], only=[5, 2])
        for i, v in zip(r.examples, r.values["logit_diff"][0].tolist(), strict=True)
    }
    assert some == pytest.approx({i: whole[i] for i in (2, 5)}, abs=1e-5)


@pytest.mark.parametrize("name", SCREENED)
def test_the_stated_recall_is_that_of_a_full_run(toy_networks, make_prompts, make_context, name):
    """With all other sites sampled, nothing is left to estimate: the recall has to be the true one."""
    network = toy_networks["neox"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    every = planned(name, context)
    exact = dict(zip((site_of(row) for row in every.rows), effects(network, every), strict=True))
    n_top = len(exact) // 2
    arm = planned(name, context, screen="attribution", screen_top=n_top, screen_random=len(exact) + 3)
    strongest = sorted(exact, key=lambda site: -abs(exact[site]))[:n_top]
    true = len({*strongest} & {*arm.estimates.top}) / n_top
    values = 2 + np.array([exact[site_of(row)] for row in arm.rows])[:, None]
    found = receipt(measured(arm, {"logit_diff": values}, {"logit_diff": np.array([2.0])}))
    assert found["recall"]["recall"] == pytest.approx(true)
    assert f"estimated recall of these: {true:.0%}" in found["text"]


@pytest.mark.parametrize("name", [name for name in all_ablations() if name not in (*SCREENED, "heads_zero")])
def test_kinds_without_an_estimate_have_no_such_key(name):
    assert "screen" not in {field.name for field in fields(find_ablation(name).config)}


def test_the_seed_draws_the_random_sites():
    for name in (*SCREENED, "heads_zero"):
        kind = find_ablation(name)
        without, drawn = (kind.random_components(kind.config(kind=name, screen=s), 0) for s in (None, "attribution"))
        assert drawn == (*without, "random sites")


def test_recall_by_hand():
    """12 sites, 4 chosen, 4 of the other 8 sampled, so each of those counts twice; the strongest four are 9, 5, 3 and a 2.5."""
    top = [(0, 0), (1, 0), (2, 0), (3, 0)]
    sample = [(0, 0), (5, 0), (6, 0), (7, 0), (8, 0)]  # one of them was chosen anyway and says nothing about the rest
    exact = {(0, 0): -9.0, (1, 0): 5.0, (2, 0): 3.0, (3, 0): 2.0, (5, 0): 0.1, (6, 0): -2.5, (7, 0): 0.0, (8, 0): 1.9}
    found = recall(estimates(np.zeros(12), top, sample), exact)
    assert (found["of"], found["rest"], found["rest_sampled"], found["rest_strong"]) == (4, 8, 4, 1)
    assert found["threshold"] == 2.5
    assert found["recall"] == pytest.approx(3 / 4)
    assert found["missed_at_most"] == 6  # the share p with P(at most 1 of 4) = .05 is .7514
    weaker = recall(estimates(np.zeros(12), top, sample), {**exact, (6, 0): 4.0, (5, 0): 4.0})
    assert weaker["recall"] == pytest.approx(2 / 4)  # 9, 5 and two of the four that the two stand for


def test_recall_counts_ten_sites_at_most():
    top = [(i, 0) for i in range(12)]
    exact = {(i, 0): 20.0 - i for i in range(12)} | {(20, 0): 10.5, (21, 0): 0.0}  # 10.5 would be the tenth strongest's rival
    found = recall(estimates(np.zeros(30), top, [(20, 0), (21, 0)]), exact)
    assert (found["of"], found["recall"], found["threshold"], found["rest_strong"]) == (10, 1.0, 11.0, 0)


def test_recall_when_all_or_only_chosen_sites_are_known():
    top = [(0, 0), (1, 0)]
    exact = {(0, 0): 1.0, (1, 0): 2.0}
    everything = recall(estimates(np.zeros(2), top, top), exact)
    assert (everything["recall"], everything["missed_at_most"]) == (1.0, 0)  # nothing was left out
    assert recall(estimates(np.zeros(9), top, top), exact)["recall"] is None  # nothing is known of what was left out


def test_receipt_by_hand():
    """Effects at factor 0 count, not those at other factors; ranks and signs on the sample and on the top."""
    half = Scale(0.5)
    rows = [
        Row({"layer": layer, "head": 0, "scale": r.factor}, Intervention((Edit("z", layer, 0, r),)), InterventionSpec(*"abcde"))
        for layer in range(4)
        for r in (ZERO, half)
    ]
    effect = np.array([1.0, 50, -2, 50, 3, 50, 4, 50])  # mean over the examples, by row
    arm = SimpleNamespace(rows=rows, estimates=estimates([1.5, 1.0, 2.5, 9.0], [(3, 0), (2, 0)], [(0, 0), (1, 0), (2, 0)]))
    values = {"logit_diff": 2 + effect[:, None] + [[-1.0, 1.0]]}
    found = receipt(measured(arm, values, {"logit_diff": np.array([1.0, 3.0])}))
    assert found["random_sample"] == {"n": 3, "rank_correlation": pytest.approx(1.0), "sign_agreement": pytest.approx(2 / 3)}
    assert found["top"] == {"n": 2, "rank_correlation": pytest.approx(1.0), "sign_agreement": 1.0}
    assert found["measured"] == 4
    assert "67% equal signs on 3 random sites" in found["text"]
    bound = "at most 1 of the 2 sites that were not chosen are as strong as the 2 strongest (0 of 2 random ones are)"
    assert bound in found["text"]
    assert found["text"].index(bound) < found["text"].index("estimated recall of these: 100%")


def test_an_unmeasured_metric_leaves_no_receipt():
    arm = SimpleNamespace(rows=[], estimates=estimates([1.0], [(0, 0)], [(0, 0)]))
    found = receipt(measured(arm, {}, {}))
    assert "not among metrics.names" in found["text"]
    assert "recall" not in found
