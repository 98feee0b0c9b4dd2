"""Whole attention layers and MLPs against the reference and by hand."""

from dataclasses import replace

import pytest
import torch

from tests.ablations.conftest import checked
from tests.conftest import SHAPES
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.single_site import LayersMeanConfig
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.run.plan import LayerSitesConfig, ReferenceSet

NAMES = ("attn_zero", "attn_mean", "attn_resample", "mlp_zero", "mlp_mean", "mlp_resample")
KINDS = {name: find_ablation(name) for name in NAMES}


def config(kind, **keys):
    return kind.config(kind=kind.name, **keys)


def prompt(*ids):
    return Prompt(ids, (1,), (2,), {}, "p")


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(toy_networks, make_prompts, make_context, against_reference, shape, name, positions):
    network, kind = toy_networks[shape], KINDS[name]
    prompts = make_prompts(network.shape.d_vocab, n=5)
    if name.endswith("resample"):  # every length twice, so that every prompt has a donor
        prompts += [replace(p, ids=tuple(i + 1 for i in p.ids), name=f"{p.name} again") for p in prompts]
    (arm,) = kind.plan(config(kind, positions=positions), make_context(network, prompts))
    component = "attn_out" if name.startswith("attn") else "mlp_out"
    assert [dict(row.key) for row in arm.rows] == [{"layer": i, "granularity": component} for i in (0, 1)]
    assert against_reference(network, arm) > 0.05


@pytest.mark.parametrize("mean", ["overall", "position", "template"])
def test_every_mean_agrees_with_the_reference(toy_networks, make_prompts, make_context, against_reference, mean):
    network, kind = toy_networks["gpt2"], KINDS["mlp_mean"]
    prompts = make_prompts(network.shape.d_vocab, n=5)
    (arm,) = kind.plan(
        config(kind, mean=mean),
        make_context(
            network,
            prompts,
            templates=["t"] * len(prompts),
            reference=(ReferenceSet(prompts, ["t"] * len(prompts), ["train"] * len(prompts), len(prompts))),
        ),
    )
    assert against_reference(network, arm) > 0.05


@pytest.mark.parametrize("name", KINDS)
def test_one_value_by_hand(toy_networks, make_context, name):
    """The module's output replaced with a plain hook on the plain model."""
    network, kind = toy_networks["llama"], KINDS[name]
    evaluated, other = (3, 4, 6), (5, 8, 7)  # of one length, so in every draw each gives to the other
    sources = {"zero": [], "mean": [(5, 6, 7), (5, 8)], "resample": [other]}[name.split("_")[1]]
    reference = ReferenceSet([prompt(*ids) for ids in sources], [""] * 2, ["train"] * 2, 2)
    context = make_context(network, [prompt(*evaluated), prompt(*other)], reference=reference)
    (arm,) = kind.plan(config(kind, layers=[0]), context)
    block = network.hf.model.layers[0]
    module, seen = block.self_attn if name.startswith("attn") else block.mlp, []

    def added(output):
        return output[0] if isinstance(output, tuple) else output

    def swap(_module, _args, output):
        values = torch.cat(seen) if seen else torch.zeros(1)
        new = (values.mean(0) if name.endswith("mean") else values).expand_as(added(output))
        return (new, *output[1:]) if isinstance(output, tuple) else new

    with torch.no_grad():
        handle = module.register_forward_hook(lambda _m, _a, output: seen.append(added(output)[0]))
        for ids in sources:
            network.hf(input_ids=torch.tensor([ids]))
        handle.remove()
        handle = module.register_forward_hook(swap)
        logits = network.hf(input_ids=torch.tensor([evaluated])).logits[0, -1]
        handle.remove()
    result = Executor(network, arm.prompts, [arm.rows[0].intervention], [metric("logit_diff")]).run(0)
    got = result.values["logit_diff"][0, 0].item()
    assert got == pytest.approx((logits[1] - logits[2]).item(), abs=5e-5)
    assert abs(got - result.baseline["logit_diff"][0].item()) > 0.01


def test_the_table_of_a_run(run_toy):
    impact = run_toy(LayersMeanConfig(kind="mlp_mean", mean="position", positions="last")).tables.impact
    rows = impact[impact["metric"] == "logit_diff"]
    assert list(rows.columns[:7]) == ["run_id", "seed", "layer", "granularity", "metric", "value", "condition"]
    assert set(rows["replacement"]) == {"mean_position"}
    assert set(rows["granularity"]) == set(rows["component"]) == {"mlp_out"}
    assert rows["delta"].abs().min() > 1e-4


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("keys", "message"),
    [({"layers": []}, r"ablation\.layers=\[\]: the list is empty"), ({"positions": "x"}, r"ablation\.positions=x")],
)
def test_wrong_settings_are_refused_before_the_model(name, keys, message):
    with pytest.raises(ConfigError, match=message):
        checked(KINDS[name], config(KINDS[name], **keys))


def test_an_unknown_mean_and_a_layer_that_there_is_not(toy_networks, make_prompts, make_context):
    with pytest.raises(ConfigError, match=r"ablation\.mean=x"):
        checked(KINDS["mlp_mean"], config(KINDS["mlp_mean"], mean="x"))
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    with pytest.raises(ConfigError, match="2 layers, 0 to 1; there is no 2"):
        KINDS["attn_zero"].plan(LayerSitesConfig(kind="attn_zero", layers=[2]), context)
