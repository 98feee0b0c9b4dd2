"""Interventions that cannot reach most tokens are computed without them, and nothing else changes."""

import pytest
import torch

from tests.conftest import SHAPES
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.forward import Passes
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.shares import shares
from tiny_ablation.interventions.replacements import Scale
from tiny_ablation.metrics.registry import metric

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
    return [(s.start, s.runs, None if s.only is None else s.only.tolist()) for s in run.shares(batch)]


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
        for component, head in (
            ("z", 0),
            ("k", 1),
            ("resid_pre", None),
            ("mlp_out", None),
            ("resid_post", None),
        )
        for factor in (0.0, 0.5)
    ]
    assert any(only is not None for _, _, only in planned(network, plan))
    [found] = list(executor(network, plan))
    monkeypatch.setattr(Executor, "shares", lambda self, batch, _: shares(self.plan, batch, None))
    [whole] = list(executor(network, plan))
    torch.testing.assert_close(found.values["logit_diff"], whole.values["logit_diff"], atol=1e-5, rtol=0)
    assert torch.equal(found.top1, whole.top1)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_edit_that_changes_nothing_has_an_effect_of_exactly_zero(toy_networks, shape):
    network = toy_networks[shape]
    plan = [
        zero(layer, p, factor=1.0) for layer in range(2) for p in ("last", "subject", 0, 1, 2, 3, 4, 5, -2)
    ]
    [found] = list(executor(network, plan))
    baseline = found.baseline["logit_diff"].expand(len(plan), -1)
    assert torch.equal(found.values["logit_diff"], baseline)


def test_prompts_without_that_position_keep_their_values(toy_networks):
    [found] = list(executor(toy_networks["llama"], [zero(0, 5, "resid_pre", None)]))
    moved = found.values["logit_diff"][0] != found.baseline["logit_diff"]
    assert moved.tolist() == [False, True, False]
