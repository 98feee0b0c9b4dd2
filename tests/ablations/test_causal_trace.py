"""causal_trace against the reference, against plain hooks, and its averages by hand."""

import numpy as np
import pytest
import torch

from tests.ablations.conftest import checked
from tests.conftest import SHAPES
from tiny_ablation.ablations.patching.causal_trace import CausalTraceConfig, Restored
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError, DataError
from tiny_ablation.metrics.registry import metric

ABLATION = find_ablation("causal_trace")

LOGIT_DIFF = [metric("logit_diff")]


def config(**keys):
    return CausalTraceConfig(kind="causal_trace", **keys)


def prompts_for(vocabulary):
    """Subjects of three, two and one tokens; the last one ends its prompt but for one token."""
    ids = [(5, 9, 2, 7, 4, 8, 3), (5, 9, 6, 1, 8, 2), (5, 9, 3, 7)]
    marks = [(1, 2, 3), (2, 3), (2,)]
    return [
        Prompt(tuple(i % vocabulary for i in row), (1,), (2,), {"subject": mark}, f"p{n}")
        for n, (row, mark) in enumerate(zip(ids, marks, strict=True))
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(toy_networks, make_context, against_reference, shape):
    network = toy_networks[shape]
    prompts = prompts_for(network.shape.d_vocab)
    for window in (1, 10):
        first, clean = ABLATION.plan(config(noise_draws=1, window=window), make_context(network, prompts))
        assert not clean.rows
        assert against_reference(network, first, stride=3, base_intervention=first.base_intervention) > 0.1


def test_by_hand_with_plain_hooks(toy_networks, make_context):
    """Noise on the embeddings, then the state that leaves layer 0 at the last subject token restored."""
    network = toy_networks["llama"]
    prompt = prompts_for(network.shape.d_vocab)[0]
    arm, _ = ABLATION.plan(config(noise_draws=1), make_context(network, [prompt]))
    embed, block = network.hf.model.embed_tokens, network.hf.model.layers[0]
    noise = arm.base_intervention.edits[0].replacement.lookup.values("resid_pre", 0)[1:, 0]
    assert noise.shape == (3, 32)
    tensor = lambda out: out[0] if isinstance(out, tuple) else out  # noqa: E731
    seen = []

    def blur(_module, _args, out):
        new = out.clone()
        new[0, [1, 2, 3]] += noise
        return new

    def restore(_module, _args, out):
        new = tensor(out).clone()
        new[0, 3] = seen[0][0, 3]
        return (new, *out[1:]) if isinstance(out, tuple) else new

    def logit_diff(*hooks):
        handles = [module.register_forward_hook(fn) for module, fn in hooks]
        with torch.no_grad():
            logits = network.hf(input_ids=torch.tensor([prompt.ids])).logits[0, -1]
        for handle in handles:
            handle.remove()
        return (logits[1] - logits[2]).item()

    clean = logit_diff((block, lambda _m, _a, out: seen.append(tensor(out).clone())))
    noised, restored = logit_diff((embed, blur)), logit_diff((embed, blur), (block, restore))
    row = next(r for r in arm.rows if tuple(r.key.values()) == (0, "subject_last", "layer_resid"))
    result = Executor(network, arm.prompts, [row.intervention], LOGIT_DIFF, base_intervention=arm.base_intervention).run(0)
    assert result.baseline["logit_diff"].item() == pytest.approx(noised, abs=5e-5)
    assert result.values["logit_diff"].item() == pytest.approx(restored, abs=5e-5)
    assert len({round(x, 3) for x in (clean, noised, restored)}) == 3


def test_tokens_have_the_names_of_the_paper(toy_networks, make_context):
    network = toy_networks["llama"]
    arm, _ = ABLATION.plan(config(noise_draws=1), make_context(network, prompts_for(network.shape.d_vocab)))
    named = [{name: at for name, at in p.marks.items() if name not in ("subject",) and at} for p in arm.prompts]
    assert named == [
        {
            "subject_first 0": (1,),
            "subject_middle 0": (2,),
            "subject_last 0": (3,),
            "first_after 0": (4,),
            "further 0": (5,),
            "last 0": (6,),
        },
        {"subject_first 0": (2,), "subject_last 0": (3,), "first_after 0": (4,), "last 0": (5,)},
        {"subject_first 0": (2,), "subject_last 0": (2,), "last 0": (3,)},
    ]


def test_windows_stand_around_their_layer(toy_networks, make_context):
    network = toy_networks["llama"]
    cfg = config(noise_draws=1, window=2, granularities=[Restored.mlp_out])
    arm, _ = ABLATION.plan(cfg, make_context(network, prompts_for(network.shape.d_vocab)[:1]))
    layers = {row.key["layer"]: [edit.layer for edit in row.intervention.edits] for row in arm.rows}
    assert layers == {0: [0], 1: [0, 1]}


def test_means_over_draws_and_over_the_tokens_of_a_name(run_toy):
    run = run_toy(config(noise_draws=3, granularities=[Restored.layer_resid]), n_examples=12)
    draws, clean = run.measured[:-1], run.measured[-1]
    assert [m.arm.run for m in run.measured] == ["corrupt"] * 3 + ["clean"]
    assert np.ptp([m.baseline["logit_diff"] for m in draws], axis=0).min() > 1e-3  # every draw is another
    (noised, _) = ABLATION.combine(run.prepared, run.measured)
    np.testing.assert_allclose(noised.baseline["logit_diff"], np.mean([m.baseline["logit_diff"] for m in draws], axis=0))
    assert np.abs(noised.baseline["logit_diff"] - clean.baseline["logit_diff"]).max() > 0.01
    several = 0
    for place, row in enumerate(noised.arm.rows):
        members = [i for i, r in enumerate(draws[0].arm.rows) if r.key == row.key]
        for example, prompt in enumerate(draws[0].arm.prompts):
            mine = [i for i in members if prompt.marks[draws[0].arm.rows[i].intervention.edits[0].positions]]
            several += len(mine) > 1
            got = noised.values["logit_diff"][place, example]
            if mine:
                assert got == pytest.approx(np.mean([m.values["logit_diff"][i, example] for m in draws for i in mine]))
            else:
                assert np.isnan(got)
    assert several > 0


def test_an_example_without_a_token_does_not_count_there(run_toy):
    run = run_toy(config(noise_draws=1, granularities=[Restored.layer_resid], layers=[0]), n_examples=12)
    prompts = run.measured[0].arm.prompts
    rows = run.tables.impact[run.tables.impact["metric"] == "logit_diff"].set_index("position")
    for name, n in rows["n"].items():
        assert n == sum(any(at for mark, at in p.marks.items() if mark.startswith(f"{name} ")) for p in prompts)
    assert rows["n"].min() < rows["n"].max()
    assert rows["value"].notna().all()
    recovered = run.tables.impact[run.tables.impact["metric"] == "recovered"].set_index("position")
    assert recovered["n"].to_dict() == rows["n"].to_dict()
    examples = run.examples
    assert examples.groupby("position").size().to_dict() == rows["n"].to_dict()
    assert examples["logit_diff"].notna().all()


def test_noise_is_drawn_by_example_and_draw_and_is_as_wide_as_said(toy_networks, make_context):
    network = toy_networks["gpt2"]
    prompts = prompts_for(network.shape.d_vocab)
    long = [Prompt((1,) * 400, (1,), (2,), {"subject": tuple(range(390))}, "long")]

    def noise(of, draw=0, seed=0, **keys):
        arms = ABLATION.plan(config(**keys), make_context(network, of, seed=seed))
        lookup = arms[draw].base_intervention.edits[0].replacement.lookup
        table = lookup.values("resid_pre", 0)[:, 0]
        return {p.name: table[[lookup.row(e, i) for i in p.marks["subject"]]] for e, p in enumerate(of)}

    whole, part = noise(prompts), noise(prompts[1:])
    assert torch.equal(whole["p2"], part["p2"])  # whichever other examples are there
    assert not torch.equal(whole["p2"], noise(prompts, draw=1)["p2"])
    assert not torch.equal(whole["p2"], noise(prompts, seed=1)["p2"])
    std = network.hf.get_input_embeddings().weight.std().item()
    assert noise(long)["long"].std().item() == pytest.approx(3 * std, rel=0.03)
    assert noise(long, noise=0.5)["long"].std().item() == pytest.approx(0.5 * std, rel=0.03)


def test_restoring_everything_behind_the_noise_gives_the_clean_run(toy_networks, make_context):
    """The last layer's state at the last token is all that the answer is read from."""
    network = toy_networks["neox"]
    prompts = prompts_for(network.shape.d_vocab)
    arm, clean = ABLATION.plan(config(noise_draws=1, layers=[1]), make_context(network, prompts))
    row = next(r for r in arm.rows if r.key["position"] == "last" and r.key["granularity"] == "layer_resid")
    for result in Executor(network, arm.prompts, [row.intervention], LOGIT_DIFF, base_intervention=arm.base_intervention):
        (expected,) = (
            r.baseline["logit_diff"] for r in Executor(network, [clean.prompts[e] for e in result.examples], [], LOGIT_DIFF)
        )
        torch.testing.assert_close(result.values["logit_diff"][0], expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"noise_draws": 0}, r"ablation\.noise_draws=0: it must be at least 1"),
        ({"window": 0}, r"ablation\.window=0"),
        ({"noise": 0.0}, r"ablation\.noise=0\.0"),
        ({"granularities": []}, r"ablation\.granularities=\[\]: the list is empty"),
    ],
)
def test_settings_that_trace_nothing_are_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        checked(ABLATION, config(**keys))


def test_a_prompt_without_subject_is_refused(toy_networks, make_context):
    network = toy_networks["llama"]
    with pytest.raises(DataError, match="have no subject in one of their prompts: bare"):
        ABLATION.plan(config(), make_context(network, [Prompt((1, 2), (1,), (2,), {}, "bare")]))
