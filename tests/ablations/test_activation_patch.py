"""activation_patch against the reference, against plain hooks on the Hugging Face model, and its identities."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import SHAPES
from tiny_ablation.ablations.patching.activation_patch import (
    ActivationPatchConfig,
    Direction,
    Granularity,
    PatchPositions,
    Unequal,
)
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.shared.replacements import Patch
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import GuardError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.run.tables import run_tables

ABLATION = find_ablation("activation_patch")


def config(granularity="layer_resid", positions="last", direction="both", **keys):
    return ActivationPatchConfig(
        kind="activation_patch",
        granularity=Granularity[granularity],
        positions=PatchPositions[positions],
        direction=Direction[direction],
        **keys,
    )


CASES = [
    (granularity, positions)
    for granularity in Granularity.__members__
    for positions in PatchPositions.__members__
    if (granularity, positions) != ("layer_resid", "all")
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("granularity", "positions"), CASES)
def test_both_directions_agree_with_the_reference(
    toy_networks, make_pairs, make_context, against_reference, shape, granularity, positions
):
    network = toy_networks[shape]
    clean, corrupt = make_pairs(network.shape.d_vocab, n=3)
    arms = ABLATION.plan(config(granularity, positions), make_context(network, clean, corrupt=corrupt))
    assert [arm.run for arm in arms] == ["corrupt", "clean"]
    for arm in arms:
        assert against_reference(network, arm, stride=2 if len(arm.rows) < 20 else 7) > 0.01


@pytest.mark.parametrize("shared", [True, False], ids=["tree", "buckets"])
def test_last_positions_of_unequal_pairs_meet(toy_networks, make_pairs, make_context, against_reference, shared):
    """Two equal corrupt prompts whose clean ones share a beginning longer than they are: their values must not be mixed up."""
    network = toy_networks["llama"]
    clean, corrupt = make_pairs(network.shape.d_vocab, n=3)
    source = (*corrupt[0].ids, 7)
    clean = [Prompt((*source, i + 1, i + 2), p.target, p.foil, {}, p.name) for i, p in enumerate(clean)]
    corrupt = [corrupt[0]] * 3
    arm, bare = ABLATION.plan(config(direction="clean_to_corrupt"), make_context(network, clean, corrupt=corrupt))
    assert not bare.rows
    assert against_reference(network, arm, shared=shared) > 0.1


def hf_logits(network, ids, hook=None):
    """Logits at the last token of the plain Hugging Face Llama, with (module, function, is_pre) attached."""
    handles = []
    if hook:
        module, fn, pre = hook
        handles.append(module.register_forward_pre_hook(fn) if pre else module.register_forward_hook(fn))
    try:
        with torch.no_grad():
            return network.hf(input_ids=torch.tensor([ids])).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()


def test_by_hand_with_plain_hooks(toy_networks, make_pairs, make_context):
    """Head 2 of layer 1 at the subject, clean into corrupt: written with nothing but torch hooks."""
    network = toy_networks["llama"]
    (clean,), (corrupt,) = make_pairs(network.shape.d_vocab, n=1)
    projection = network.hf.model.layers[1].self_attn.o_proj
    seen = []
    hf_logits(network, clean.ids, (projection, lambda _m, args: seen.append(args[0].clone()), True))

    def write(_module, args):
        new = args[0].clone()
        new[0, [1, 2], 16:24] = seen[0][0, [1, 2], 16:24]  # d_head is 8
        return (new,)

    logits = hf_logits(network, corrupt.ids, (projection, write, True))
    before = hf_logits(network, corrupt.ids)
    cfg = config("head_out", "subject", "clean_to_corrupt", layers=[1], heads=[2])
    arm, _ = ABLATION.plan(cfg, make_context(network, [clean], corrupt=[corrupt]))
    # Written at the last layer before the last token, it reaches nothing: shows that positions are obeyed.
    assert torch.equal(logits, before)
    cfg = config("head_out", "last", "clean_to_corrupt", layers=[1], heads=[2])
    at_last, _ = ABLATION.plan(cfg, make_context(network, [clean], corrupt=[corrupt]))

    def write_last(_module, args):
        new = args[0].clone()
        new[0, -1, 16:24] = seen[0][0, -1, 16:24]
        return (new,)

    logits = hf_logits(network, corrupt.ids, (projection, write_last, True))
    for chosen, expected in ((arm, before), (at_last, logits)):
        got = Executor(network, chosen.prompts, [r.intervention for r in chosen.rows], [metric("logit_diff")]).run(0)
        difference = expected[corrupt.target[0]] - expected[corrupt.foil[0]]
        assert got.values["logit_diff"].item() == pytest.approx(difference.item(), abs=5e-5)
    assert (logits - before).abs().max() > 0.01


def test_a_block_by_hand_with_plain_hooks(toy_networks, make_pairs, make_context):
    """The residual stream leaving layer 0 at the subject, corrupt into clean."""
    network = toy_networks["llama"]
    (clean,), (corrupt,) = make_pairs(network.shape.d_vocab, n=1)
    block, seen = network.hf.model.layers[0], []
    first = lambda out: out[0] if isinstance(out, tuple) else out  # noqa: E731
    hf_logits(network, corrupt.ids, (block, lambda _m, _a, out: seen.append(first(out).clone()), False))

    def write(_module, _args, out):
        new = first(out).clone()
        new[0, [1, 2]] = seen[0][0, [1, 2]]
        return (new, *out[1:]) if isinstance(out, tuple) else new

    logits = hf_logits(network, clean.ids, (block, write, False))
    arm = ABLATION.plan(config(positions="subject", layers=[0]), make_context(network, [clean], corrupt=[corrupt]))[1]
    got = Executor(network, arm.prompts, [arm.rows[0].intervention], [metric("logit_diff")]).run(0)
    difference = (logits[clean.target[0]] - logits[clean.foil[0]]).item()
    assert got.values["logit_diff"].item() == pytest.approx(difference, abs=5e-5)
    assert abs(difference - got.baseline["logit_diff"].item()) > 0.01


def test_all_of_the_last_layer_at_the_last_token_is_the_source_run(run_toy):
    run = run_toy(config())
    restored, broken = run.measured
    last = run.prepared.network.shape.n_layers - 1
    assert restored.arm.rows[last].key["layer"] == last
    np.testing.assert_allclose(restored.values["logit_diff"][last], broken.baseline["logit_diff"], atol=5e-5)
    np.testing.assert_allclose(broken.values["logit_diff"][last], restored.baseline["logit_diff"], atol=5e-5)
    assert np.abs(restored.baseline["logit_diff"] - broken.baseline["logit_diff"]).max() > 0.1


def test_each_position_has_its_row(run_toy):
    run = run_toy(config("attn_out", "each", "clean_to_corrupt", unequal=Unequal.skip))
    lengths = {len(p.ids) for p in run.prepared.arms[0].prompts}
    rows = run.tables.impact[run.tables.impact["metric"] == "logit_diff"]
    places = range(min(lengths)) if len(lengths) == 1 else range(-min(lengths), 0)
    assert rows["position"].unique().tolist() == [str(i) for i in places]
    assert len(rows) == 2 * len(places)
    assert run.prepared.spec.table == "position_impact"


def test_positions_count_from_the_end_where_lengths_differ(toy_networks, make_pairs, make_context):
    network = toy_networks["llama"]
    clean, corrupt = make_pairs(network.shape.d_vocab, n=3, lengths=(5, 7))
    arm, _ = ABLATION.plan(config("mlp_out", "each", "clean_to_corrupt"), make_context(network, clean, corrupt=corrupt))
    assert [row.key["position"] for row in arm.rows[:5]] == ["-5", "-4", "-3", "-2", "-1"]
    at_last, _ = ABLATION.plan(config("mlp_out", "last", "clean_to_corrupt"), make_context(network, clean, corrupt=corrupt))
    values = [
        np.concatenate([r.values["logit_diff"][0].numpy() for r in Executor(network, corrupt, [row.intervention], METRIC)])
        for row in (arm.rows[4], at_last.rows[0])
    ]
    np.testing.assert_allclose(values[0], values[1], atol=1e-5)


METRIC = [metric("logit_diff")]


def test_sham_changes_nothing(run_toy):
    run = run_toy(config("head_out", "all", self_patch=True, unequal=Unequal.skip))
    rows = run.tables.impact[run.tables.impact["metric"] == "logit_diff"]
    assert rows["delta"].abs().max() < 5e-5
    assert set(rows["direction"]) == {"clean_to_clean", "corrupt_to_corrupt"}
    assert len(rows) == 16


def test_sham_that_changes_something_is_an_error(run_toy, monkeypatch):
    monkeypatch.setattr(Patch, "value", lambda _self, _current, source, _edit: source + 0.1)
    with pytest.raises(GuardError, match=r"patching a run with itself at L\dH\d\.z"):
        run_toy(config("head_out", "last", "clean_to_corrupt", self_patch=True))


def with_advantage(run, by):
    """The run's tables had the clean prompts been better by so much: a toy model knows no facts."""
    shifted = [replace(m, baseline={k: v + by * (m.arm.run == "clean") for k, v in m.baseline.items()}) for m in run.measured]
    return shifted, run_tables(run.prepared, shifted)


def test_recovered_and_asymmetry_by_hand(run_toy):
    (restored, broken), tables = with_advantage(run_toy(config("head_out", "last"), n_examples=12), 3.0)
    clean, corrupt = broken.baseline["logit_diff"].mean(), restored.baseline["logit_diff"].mean()
    expected = [(m.values["logit_diff"].mean(1) - corrupt) / (clean - corrupt) for m in (restored, broken)]
    rows = tables.impact[tables.impact["metric"] == "recovered"]
    np.testing.assert_allclose(rows["value"], np.concatenate(expected))
    np.testing.assert_allclose(rows["delta"], rows["value"])
    assert ((rows["ci_low"] <= rows["value"]) & (rows["value"] <= rows["ci_high"])).all()
    assert rows["p_value"].isna().all()
    assert (rows["baseline"] == 0).all()
    table = tables.more["asymmetry"]
    np.testing.assert_allclose(table["restoring"], expected[0])
    np.testing.assert_allclose(table["breaking"], 1 - expected[1])
    np.testing.assert_allclose(table["asymmetry"], expected[0] - (1 - expected[1]))
    assert (table["asymmetry_low"] <= table["asymmetry"]).all()
    assert (table["asymmetry"] <= table["asymmetry_high"]).all()
    assert table["head"].tolist() == [0, 1, 2, 3] * 2


def test_recovered_is_missing_without_an_advantage(run_toy):
    run = run_toy(config("head_out", "last"), n_examples=12)
    corrupt = run.measured[0].baseline["logit_diff"]
    level = [replace(m, baseline={**m.baseline, "logit_diff": corrupt}) for m in run.measured]
    tables = run_tables(run.prepared, level)
    assert tables.impact.query("metric == 'recovered'")[["value", "ci_low", "ci_high"]].isna().all(axis=None)
    assert tables.more["asymmetry"]["restoring"].isna().all()


def test_one_direction_still_says_what_is_recovered(run_toy):
    _, both = with_advantage(run_toy(config("head_out", "last"), n_examples=12), 3.0)
    _, one = with_advantage(run_toy(config("head_out", "last", "corrupt_to_clean"), n_examples=12), 3.0)
    expected = both.impact.query("metric == 'recovered' and direction == 'corrupt_to_clean'")
    got = one.impact.query("metric == 'recovered'")
    assert len(got) == 8
    assert got["value"].notna().all()
    np.testing.assert_allclose(got["value"], expected["value"], atol=1e-6)
    assert "asymmetry" not in one.more


def test_per_example_tells_directions_apart(run_toy):
    table = run_toy(config()).examples
    assert set(table["direction"]) == {"clean_to_corrupt", "corrupt_to_clean"}
    assert not table.duplicated(["example_id", "layer", "granularity", "direction"]).any()
