"""Interventions that cannot reach most tokens are computed without them, and nothing else changes."""

import sys
from dataclasses import replace

import pytest
import torch

from tests.conftest import SHAPES
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.engine import scheduling
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.forward import Passes
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.reference import Reference
from tiny_ablation.errors import ModelError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.network import Network

# A tree of 9 nodes: 1 2 3 (0 1 2), then 4 5 (3 4), 4 6 7 (3 5 6), and 8 9 (7 8).
PROMPTS = [
    Prompt(ids, (3,), (4,), {"subject": (1,)}, str(i))
    for i, ids in enumerate([(1, 2, 3, 4, 5), (1, 2, 3, 4, 6, 7), (1, 2, 3, 8, 9)])
]


def zero(layer, positions, component="z", head=0, factor=0.0):
    return Intervention((Edit(component, layer, head, Scale(factor), positions),))


def executor(network, plan):
    return Executor(network, PROMPTS, plan, [metric("logit_diff")], shared=True)


def planned(network, plan):
    run = executor(network, plan)
    [batch] = run.batches
    return [(s.start, list(s.runs), None if s.only is None else s.only.tolist()) for s in run.shares(batch)]


def test_what_runs_is_what_an_edit_can_reach(toy_networks):
    network = toy_networks["llama"]
    plan = [zero(1, 3), zero(0, "last"), zero(0, "all"), zero(0, 0), zero(0, "last", head=1), zero(1, 4)]
    assert planned(network, plan) == [
        (0, [2, 3], None),  # everything comes after position 0
        (0, [1, 4], [0, 4, 6, 8]),  # the answers, and one node more for the products' sake
        (1, [0], [3, 4, 5, 6, 7, 8]),
        (1, [5], [4, 5, 6, 8]),
    ]


def test_only_what_can_change_is_computed(toy_networks, monkeypatch):
    network, tokens = toy_networks["llama"], []
    plan = [zero(1, "last")]
    run = executor(network, plan)
    original = Passes._run

    def watched(self, batch, *args, **kwargs):
        tokens.append(batch.n_nodes)
        return original(self, batch, *args, **kwargs)

    monkeypatch.setattr(Passes, "_run", watched)
    list(run)
    assert sorted(tokens)[:1] == [4]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("positions", ["last", "subject", 3, -2])
def test_the_same_numbers_as_with_all_tokens(toy_networks, shape, positions, monkeypatch):
    network = toy_networks[shape]
    plan = [
        zero(layer, positions, component, head, factor)
        for layer in range(network.shape.n_layers)
        for component, head in (("z", 0), ("k", 1), ("resid_pre", None), ("mlp_out", None), ("resid_post", None))
        for factor in (0.0, 0.5)
    ]
    assert any(only is not None for _, _, only in planned(network, plan))
    [found] = list(executor(network, plan))
    monkeypatch.setattr(
        Executor, "shares", lambda self, batch, part, _: scheduling.shares(part, batch, self.network.shape.n_layers, None, 1)
    )
    [whole] = list(executor(network, plan))
    torch.testing.assert_close(found.values["logit_diff"], whole.values["logit_diff"], atol=1e-5, rtol=0)
    assert torch.equal(found.top1, whole.top1)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_edit_that_changes_nothing_has_an_effect_of_exactly_zero(toy_networks, shape):
    network = toy_networks[shape]
    plan = [zero(layer, p, factor=1.0) for layer in range(2) for p in ("last", "subject", 0, 1, 2, 3, 4, 5, -2)]
    [found] = list(executor(network, plan))
    baseline = found.baseline["logit_diff"].expand(len(plan), -1)
    assert torch.equal(found.values["logit_diff"], baseline)


def test_prompts_without_that_position_keep_their_values(toy_networks):
    [found] = list(executor(toy_networks["llama"], [zero(0, 5, "resid_pre", None)]))
    moved = found.values["logit_diff"][0] != found.baseline["logit_diff"]
    assert moved.tolist() == [False, True, False]


ZERO = Scale(0.0)


def pair(a, b, positions="all"):
    return Intervention(tuple(Edit("z", layer, head, ZERO, positions) for layer, head in (a, b)))


def all_pairs(shape, positions="all"):
    heads = [(layer, head) for layer in range(shape.n_layers) for head in range(shape.n_heads)]
    return [pair(a, b, positions) for i, a in enumerate(heads) for b in heads[i + 1 :]]


def test_pairs_share_their_lower_edit_where_that_saves_blocks(toy_networks):
    network = toy_networks["llama"]
    plan = [pair((0, 1), (1, head)) for head in range(4)] + [pair((0, 2), (1, 0)), pair((0, 0), (0, 1))]
    run = executor(network, plan)
    found = run.shares(run.batches[0])
    lower = Edit("z", 0, 1, ZERO, "all")
    assert [(s.made, s.start, list(s.runs)) for s in found] == [((), 0, [4, 5]), ((lower,), 1, [0, 1, 2, 3])]
    assert found[1].runs[2] == Intervention((Edit("z", 1, 2, ZERO, "all"),))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("positions", ["all", "last"])
def test_pairs_that_share_say_what_pairs_by_themselves_say(toy_networks, shape, positions, monkeypatch):
    network = toy_networks[shape]
    plan = all_pairs(network.shape, positions)
    assert any(share.made for share in executor(network, plan).shares(executor(network, plan).batches[0]))
    [found] = list(executor(network, plan))
    monkeypatch.setattr(scheduling, "_trunks", lambda plan, *_: {(): dict(plan)})
    [apart] = list(executor(network, plan))
    torch.testing.assert_close(found.values["logit_diff"], apart.values["logit_diff"], atol=1e-5, rtol=0)
    assert found.values["logit_diff"].std(0).min() > 1e-4


@pytest.mark.parametrize("last_start", [None, 0, 1])
def test_shared_edits_are_made_where_a_pass_cannot_begin_behind_them(toy_networks, monkeypatch, last_start):
    """Pairs share a pass with their first edit; where runs start at or before that edit's block, each makes it itself."""
    network = toy_networks["llama"]
    real = Network.paths
    monkeypatch.setattr(Network, "paths", lambda self, n: replace(real(self, n), resume=last_start))
    first = zero(0, "all").edits
    plan = [Intervention((*first, *zero(1, "all", head=head).edits)) for head in range(4)]
    assert any(s.made for s in scheduling.shares(dict(enumerate(plan)), executor(network, plan).batches[0], 2, None, 1))
    reference = Reference(Bare(network.hf), PROMPTS, [metric("logit_diff")])
    [result] = executor(network, plan)
    for column, example in enumerate(result.examples):
        for row, run in enumerate(plan):
            expected = reference.values(run, example)["logit_diff"]
            assert result.values["logit_diff"][row, column].item() == pytest.approx(expected, abs=5e-5)


def test_an_intervention_in_every_run_is_refused_where_it_would_be_lost(toy_networks, monkeypatch):
    network = toy_networks["llama"]
    real = Network.paths
    monkeypatch.setattr(Network, "paths", lambda self, n: replace(real(self, n), resume=None))
    noise = Intervention((Edit("resid_pre", 0, None, Scale(1.5), "all"),))
    run = Executor(network, PROMPTS, [zero(1, "all")], [metric("logit_diff")], base_intervention=noise)
    with pytest.raises(ModelError, match=r"cannot begin at a later block, so .* would be missing from the intervened ones"):
        run.run(0)


def test_the_work_of_planning_grows_as_the_interventions_do(toy_networks):
    """Counted in calls of Python functions, which comparisons of two edits are too."""

    def calls(n):
        factors = [i / n for i in range(n // 16)]
        plan = [zero(layer, "all", head=head, factor=f) for f in factors for layer in (0, 1) for head in range(4)]
        plan += [
            zero(layer, i % 3, head=head, factor=f) for i, f in enumerate(factors) for layer in (0, 1) for head in range(4)
        ]
        count = 0

        def counted(_frame, event, _arg):
            nonlocal count
            count += event == "call"

        sys.setprofile(counted)
        try:
            run = executor(toy_networks["llama"], plan)
            for batch in run.batches:
                run.shares(batch)
        finally:
            sys.setprofile(None)
        return count

    few, many = calls(320), calls(1280)
    assert many < 5 * few
