"""path_patch against the reference, against plain hooks on the Hugging Face model, and its identities."""

import numpy as np
import pytest
import torch

from tests.ablations.conftest import checked
from tests.conftest import SHAPES
from tiny_ablation.ablations.patching.activation_patch import (
    ActivationPatchConfig,
    Direction,
    Granularity,
    PatchPositions,
    Unequal,
)
from tiny_ablation.ablations.patching.path_patch import Input, PathPatchConfig
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.engine.executor import Executor
from tiny_ablation.errors import ConfigError, DataError
from tiny_ablation.metrics.registry import metric

ABLATION = find_ablation("path_patch")

LOGIT_DIFF = [metric("logit_diff")]


def config(**keys):
    return PathPatchConfig(kind="path_patch", **keys)


def values(network, arm):
    (result,) = Executor(network, arm.prompts, [row.intervention for row in arm.rows], LOGIT_DIFF)
    return result.values["logit_diff"].numpy()


@pytest.mark.parametrize("through_mlps", [False, True], ids=["frozen", "through MLPs"])
@pytest.mark.parametrize("end", ["resid", "q", "k", "v"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(toy_networks, make_pairs, make_context, against_reference, shape, end, through_mlps):
    network = toy_networks[shape]
    clean, corrupt = make_pairs(network.shape.d_vocab, n=2)
    ends = {} if end == "resid" else {"receivers": ["1.0", "1.1"], "input": Input[end]}
    arm, _ = ABLATION.plan(config(through_mlps=through_mlps, **ends), make_context(network, clean, corrupt=corrupt))
    assert len(arm.rows) == (8 if end == "resid" else 4)
    assert against_reference(network, arm, stride=2) > 1e-3


@pytest.mark.parametrize("shared", [True, False], ids=["tree", "buckets"])
@pytest.mark.parametrize("positions", ["all", "last"])
def test_prompts_that_are_alike_keep_their_own_corrupt_values(
    toy_networks, make_pairs, make_context, against_reference, positions, shared
):
    network = toy_networks["llama"]
    clean, corrupt = make_pairs(network.shape.d_vocab, n=3, lengths=(5,))
    context = make_context(network, [clean[0]] * 3, corrupt=corrupt)  # one clean prompt, three corrupt ones
    arm, _ = ABLATION.plan(config(receivers=["1.0"], input=Input.v, positions=positions), context)
    assert against_reference(network, arm, shared=shared) > 1e-3


def hooked(network, ids, hooks):
    """Logits at the last token of the plain model; `hooks` are (module, pre, fn) with fn(tensor) a new tensor or None."""

    def pre(fn):
        return lambda _m, args, kwargs: None if (new := fn(args[0])) is None else ((new, *args[1:]), kwargs)

    handles = [
        module.register_forward_pre_hook(pre(fn), with_kwargs=True)
        if is_pre
        else module.register_forward_hook(lambda _m, _a, out, fn=fn: fn(out))
        for module, is_pre, fn in hooks
    ]
    try:
        with torch.no_grad():
            return network.hf(input_ids=torch.tensor([ids])).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()


def test_head_to_query_by_hand(toy_networks, make_pairs, make_context):
    """L0H2 to the queries of L1H3, with nothing but torch hooks: patch and freeze, record, put in."""
    network = toy_networks["llama"]
    (clean,), (corrupt,) = make_pairs(network.shape.d_vocab, n=1)
    first, second = network.hf.model.layers
    z, seen = {}, {}
    for name, prompt in (("clean", clean), ("corrupt", corrupt)):
        hooked(network, prompt.ids, [(first.self_attn.o_proj, True, lambda x, name=name: z.update({name: x.clone()}))])
    hooked(network, clean.ids, [(first.mlp, False, lambda x: seen.update(mlp=x.clone()))])

    def sender(x):
        new = x.clone()
        new[..., 16:24] = z["corrupt"][..., 16:24]  # d_head is 8
        return new

    record = (second.self_attn.q_proj, False, lambda x: seen.update(q=x.clone()))
    hooked(network, clean.ids, [(first.self_attn.o_proj, True, sender), (first.mlp, False, lambda _: seen["mlp"]), record])

    def receiver(x):
        new = x.clone()
        new[..., 24:32] = seen["q"][..., 24:32]
        return new

    logits = hooked(network, clean.ids, [(second.self_attn.q_proj, False, receiver)])
    expected = (logits[clean.target[0]] - logits[clean.foil[0]]).item()
    cfg = config(receivers=["1.3"], layers=[0], heads=[2])
    arm, _ = ABLATION.plan(cfg, make_context(network, [clean], corrupt=[corrupt]))
    assert values(network, arm).item() == pytest.approx(expected, abs=5e-5)
    before = hooked(network, clean.ids, [])
    assert abs(expected - (before[clean.target[0]] - before[clean.foil[0]]).item()) > 1e-3


@pytest.mark.parametrize("layer", [0, 1])
def test_a_head_to_the_final_stream_by_hand(toy_networks, make_pairs, make_context, layer):
    """The change of its output is added to the final residual stream, past all that comes behind it."""
    network = toy_networks["llama"]
    (clean,), (corrupt,) = make_pairs(network.shape.d_vocab, n=1)
    block, z = network.hf.model.layers[layer], {}
    for name, prompt in (("clean", clean), ("corrupt", corrupt)):
        hooked(network, prompt.ids, [(block.self_attn.o_proj, True, lambda x, name=name: z.update({name: x.clone()}))])
    change = torch.zeros_like(z["clean"])
    change[..., 8:16] = (z["corrupt"] - z["clean"])[..., 8:16]
    with torch.no_grad():
        written = block.self_attn.o_proj(change)
    logits = hooked(network, clean.ids, [(network.hf.model.norm, True, lambda x: x + written)])
    arm, _ = ABLATION.plan(config(layers=[layer], heads=[1]), make_context(network, [clean], corrupt=[corrupt]))
    expected = (logits[clean.target[0]] - logits[clean.foil[0]]).item()
    assert values(network, arm).item() == pytest.approx(expected, abs=5e-5)


def test_through_mlps_a_head_of_the_last_layer_has_its_whole_effect(run_toy):
    """Behind its attention there is only the MLP, so with it unfrozen all paths are the direct one."""
    paths = run_toy(config(layers=[1], through_mlps=True, unequal=Unequal.skip))
    whole = run_toy(
        ActivationPatchConfig(
            kind="activation_patch",
            granularity=Granularity.head_out,
            positions=PatchPositions.all,
            layers=[1],
            direction=Direction.corrupt_to_clean,
            unequal=Unequal.skip,
        )
    )
    np.testing.assert_allclose(paths.measured[0].values["logit_diff"], whole.measured[0].values["logit_diff"], atol=5e-5)
    frozen = run_toy(config(layers=[1], unequal=Unequal.skip))
    assert np.abs(frozen.measured[0].values["logit_diff"] - paths.measured[0].values["logit_diff"]).max() > 0.01


def test_equal_prompts_have_no_path(toy_networks, make_pairs, make_context):
    network = toy_networks["gpt2"]
    clean, _ = make_pairs(network.shape.d_vocab, n=2, lengths=(5,))
    for cfg in (config(), config(receivers=["1.0"])):
        arm, _ = ABLATION.plan(cfg, make_context(network, clean, corrupt=clean))
        (result,) = Executor(network, clean, [row.intervention for row in arm.rows], LOGIT_DIFF)
        np.testing.assert_allclose(result.values["logit_diff"] - result.baseline["logit_diff"], 0, atol=5e-5)


def test_table_and_recovered(run_toy):
    run = run_toy(config(receivers=["1.0"], unequal=Unequal.skip))
    rows = run.tables.impact
    assert set(rows["metric"]) == {"logit_diff", "kl_div", "recovered"}
    assert set(rows["set"]) == {"path to L1H0.q"}
    assert rows[rows["metric"] == "kl_div"]["layer"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"receivers": ["0.1"]}, "no sending head lies before a receiver"),
        ({"receivers": ["1.2"], "input": Input.k}, "receivers are key/value heads, and this model has 2 a layer"),
        ({"receivers": ["1.1", "L1H1"]}, "names a head more than once"),
        ({"receivers": ["9.9"]}, "there is no head 9.9"),
    ],
)
def test_receivers_that_cannot_be_are_refused(toy_networks, make_pairs, make_context, keys, message):
    network = toy_networks["llama"]
    clean, corrupt = make_pairs(network.shape.d_vocab)
    with pytest.raises(ConfigError, match=message):
        ABLATION.plan(config(**keys), make_context(network, clean, corrupt=corrupt))


def test_what_has_no_counterpart_is_refused(toy_networks, make_pairs, make_context):
    network = toy_networks["llama"]
    clean, corrupt = make_pairs(network.shape.d_vocab)
    with pytest.raises(DataError, match="5 of 5 examples differ: pair-0"):
        ABLATION.plan(config(), make_context(network, clean, corrupt=[*corrupt[1:], corrupt[0]]))
    with pytest.raises(ConfigError, match=r"metrics\.span=full"):
        ABLATION.plan(config(), make_context(network, clean, corrupt=corrupt, full=True))
    with pytest.raises(ConfigError, match="choose one of all, last"):
        checked(ABLATION, config(positions="subject"))
