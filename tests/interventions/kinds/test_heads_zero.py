"""heads_zero on every component, with k and v counted on the key/value axis."""

import pytest

from tests.conftest import SHAPES
from tiny_ablation.errors import ConfigError
from tiny_ablation.interventions.kinds.heads_zero import KIND, HeadsZeroConfig


def config(**keys):
    return HeadsZeroConfig(kind="heads_zero", **keys)


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("component", ["z", "q", "k", "v"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(
    toy_networks, make_prompts, make_context, against_reference, shape, component, positions
):
    network = toy_networks[shape]
    context = make_context(network, make_prompts(network.shape.d_vocab, n=4))
    (leg,) = KIND.plan(config(component=component, positions=positions, scales=[0.0, 0.5, 1.0]), context)
    n_units = network.shape.n_kv_heads if component in "kv" else network.shape.n_heads
    assert [row.key["head"] for row in leg.rows if row.key["scale"] == 0] == 2 * list(range(n_units))
    assert {row.six.component for row in leg.rows} == {component}
    assert against_reference(network, leg, stride=3) > 0.005


def test_key_value_heads_of_a_grouped_model_have_rows_of_their_own(run_toy):
    impact = run_toy(config(component="v", scales=[0.0])).tables.impact
    rows = impact[impact["metric"] == "logit_diff"]
    assert list(zip(rows["layer"], rows["head"], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert set(rows["component"]) == {"v"}


def test_a_head_beyond_the_axis_of_the_component(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    with pytest.raises(ConfigError, match="2 key/value heads a layer"):
        KIND.plan(config(component="v", heads=[2]), context)
    assert KIND.plan(config(component="z", heads=[2]), context)


def test_an_unknown_component_is_refused_before_the_model():
    with pytest.raises(ConfigError, match=r"ablation\.component=mlp: choose one of z, q, k, v"):
        KIND.check(config(component="mlp"))
