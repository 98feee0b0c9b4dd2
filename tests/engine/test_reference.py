"""The reference computes many interventions on a prompt as it computes them one by one."""

import pytest
import torch

from tests.conftest import SHAPES
from tiny_ablation.ablations.shared.replacements import FromEdited, Scale, patch_from
from tiny_ablation.engine import reference as module
from tiny_ablation.engine.bare.model import Bare
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.reference import Reference
from tiny_ablation.metrics.registry import metric, metric_names

FIRST = [metric(name) for name in metric_names() if metric(name).span == "first"]


@pytest.fixture
def case(toy_networks, make_prompts):
    def make(shape="llama"):
        network = toy_networks[shape]
        prompts = make_prompts(network.shape.d_vocab)
        patch = patch_from(prompts[::-1], prompts)
        inner = Intervention((Edit("z", 0, 1, Scale(0.0)),))
        path = FromEdited(tuple(p.ids for p in prompts), tuple(len(p.ids) for p in prompts), inner)
        plan = [
            None,
            inner,
            Intervention((Edit("z", 1, 2, patch, "last"),)),
            Intervention((Edit("mlp_out", 0, None, patch),)),
            Intervention((Edit("resid_pre", 1, None, path),)),
            Intervention((Edit("z", 1, 0, Scale(0.5)),)),
        ]
        return network, prompts, plan

    return make


@pytest.mark.parametrize("tokens", [512, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_together_and_one_by_one(case, monkeypatch, shape, tokens):
    network, prompts, plan = case(shape)
    reference = Reference(Bare(network.hf), prompts, FIRST)
    alone = [reference.values(one, 3) for one in plan]
    monkeypatch.setattr(module, "MAX_TOKENS", tokens)
    for cell, expected in zip(reference.cells(plan, 3), alone, strict=True):
        assert cell.values == pytest.approx(expected, abs=2e-6)
    assert abs(alone[1]["logit_diff"] - alone[0]["logit_diff"]) > 1e-3


def test_the_baseline_runs_once_and_a_source_once_for_all_its_sites(case, monkeypatch):
    network, prompts, plan = case()
    real, runs = Bare.run, []

    def counted(self, ids, rows=1, taps=None):
        runs.append(rows)
        return real(self, ids, rows, taps)

    monkeypatch.setattr(Bare, "run", counted)
    Reference(Bare(network.hf), prompts, FIRST).cells(plan, 3)
    # The paired prompt, for two sites; the edited prompt; the baseline and all described together.
    assert sorted(runs) == [1, 1, 7]


def test_the_margin_is_the_lead_of_the_top_token_where_it_is_smaller(case):
    network, prompts, plan = case()
    cells = Reference(Bare(network.hf), prompts, FIRST).cells(plan[:2], 3)

    def lead(hooks):
        with torch.no_grad():
            logits = network.bridge.run_with_hooks(torch.tensor([prompts[3].ids]), fwd_hooks=hooks)[0, -1]
        first, second = logits.sort(descending=True).values[:2].tolist()
        return first - second

    def zero(x, hook):
        x[:, :, 1] = 0
        return x

    plain, edited = lead([]), lead([("blocks.0.attn.hook_z", zero)])
    assert cells[0].margin == pytest.approx(plain, abs=1e-5)
    assert cells[1].margin == pytest.approx(min(plain, edited), abs=1e-5)
