"""heads_zero on every component, with k and v counted on the key/value axis."""

import pytest
import torch

from tests.ablations.conftest import checked
from tests.conftest import SHAPES
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.single_site import HeadsScaleConfig
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric

ABLATION = find_ablation("heads_zero")


def config(**keys):
    return HeadsScaleConfig(kind="heads_zero", **keys)


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("component", ["z", "q", "k", "v"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(toy_networks, make_prompts, make_context, against_reference, shape, component, positions):
    network = toy_networks[shape]
    context = make_context(network, make_prompts(network.shape.d_vocab, n=4))
    (arm,) = ABLATION.plan(config(component=component, positions=positions, scales=[0.0, 0.5, 1.0]), context)
    n_units = network.shape.n_kv_heads if component in "kv" else network.shape.n_heads
    assert [row.key["head"] for row in arm.rows if row.key["scale"] == 0] == 2 * list(range(n_units))
    assert {row.described.component for row in arm.rows} == {component}
    assert {edit.component for row in arm.rows for run in row.runs for edit in run.edits} == {component}
    assert against_reference(network, arm, stride=3) > 0.005


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_one_value_by_hand(toy_networks, make_context, component):
    """A slice of the projection's output set to zero with a plain hook on the plain model."""
    network = toy_networks["llama"]
    context = make_context(network, [Prompt((3, 4, 6, 5), (1,), (2,), {}, "p")])
    (arm,) = ABLATION.plan(config(component=component, layers=[1], heads=[1], scales=[0.0]), context)
    d_head = network.shape.d_head

    def zero(_module, _args, output):
        output = output.clone()
        output[..., d_head : 2 * d_head] = 0
        return output

    module = getattr(network.hf.model.layers[1].self_attn, f"{component}_proj")
    handle = module.register_forward_hook(zero)
    with torch.no_grad():
        logits = network.hf(input_ids=torch.tensor([[3, 4, 6, 5]])).logits[0, -1]
    handle.remove()
    result = Executor(network, arm.prompts, arm.rows[0].runs, [metric("logit_diff")]).run(0)
    got = result.values["logit_diff"][0, 0].item()
    assert got == pytest.approx((logits[1] - logits[2]).item(), abs=5e-5)
    assert abs(got - result.baseline["logit_diff"][0].item()) > 1e-3


def test_key_value_heads_of_a_grouped_model_have_rows_of_their_own(run_toy):
    impact = run_toy(config(component="v", scales=[0.0])).tables.impact
    rows = impact[impact["metric"] == "logit_diff"]
    assert list(zip(rows["layer"], rows["head"], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert set(rows["component"]) == {"v"}


def test_a_head_beyond_the_axis_of_the_component(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    with pytest.raises(ConfigError, match="2 key/value heads a layer"):
        ABLATION.plan(config(component="v", heads=[2]), context)
    assert ABLATION.plan(config(component="z", heads=[2]), context)


def test_an_unknown_component_is_refused_before_the_model():
    with pytest.raises(ConfigError, match=r"ablation\.component=mlp: choose one of z, q, k, v"):
        checked(ABLATION, config(component="mlp"))
