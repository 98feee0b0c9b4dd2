"""heads_mean against the reference, its means by hand, where they come from, and what it refuses."""

import pytest
import torch

from tests.ablations.conftest import checked
from tests.conftest import SHAPES
from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.ablations.single_site import HeadsMeanConfig
from tiny_ablation.cli import main
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.run.plan import ReferenceSet

ABLATION = find_ablation("heads_mean")


def config(**keys):
    return HeadsMeanConfig(kind="heads_mean", **keys)


def prompt(*ids, name="p"):
    return Prompt(ids, (1,), (2,), {}, name)


def reference_of(*prompts, templates=None):
    return ReferenceSet(prompts, templates or [""] * len(prompts), ["train"] * len(prompts), len(prompts))


def mean_table(arm):
    """(means at layer 0, row of each token of each example)"""
    lookup = arm.rows[0].intervention.edits[0].replacement.lookup
    return lookup.values("z", 0), lookup.rows


def heads_of(network, ids, layer):
    """(tokens, heads, d_head): what the heads of a llama write, read off the plain model."""
    seen = []
    module = network.hf.model.layers[layer].self_attn.o_proj
    handle = module.register_forward_pre_hook(lambda _m, args: seen.append(args[0][0].clone()))
    with torch.no_grad():
        network.hf(input_ids=torch.tensor([ids]))
    handle.remove()
    return seen[0].unflatten(-1, (network.shape.n_heads, -1))


@pytest.mark.parametrize("mean", ["overall", "position", "template", "template_position"])
@pytest.mark.parametrize("component", ["z", "q", "k", "v"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_reference(toy_networks, make_prompts, make_context, against_reference, shape, component, mean):
    network = toy_networks[shape]
    prompts = make_prompts(network.shape.d_vocab, n=4)
    others = [*make_prompts(network.shape.d_vocab, n=6, seed=1), prompt(*range(3, 12))]
    reference = reference_of(*others, templates=[f"t{i % 2}" for i in range(len(others) - 1)] + ["t0"])
    # The second template has short reference prompts only.
    templates = ["t1" if len(p.ids) <= 3 else "t0" for p in prompts]
    positions = "last" if mean == "position" else "all"
    context = make_context(network, prompts, templates=templates, reference=reference)
    (arm,) = ABLATION.plan(config(component=component, mean=mean, positions=positions), context)
    n_units = network.shape.n_kv_heads if component in "kv" else network.shape.n_heads
    assert [row.key["head"] for row in arm.rows] == 2 * list(range(n_units))
    assert {edit.component for row in arm.rows for run in row.runs for edit in run.edits} == {component}
    # A key enters through differences of attention scores, so its effect is the smallest.
    assert against_reference(network, arm, stride=3) > 0.005


@pytest.mark.parametrize("full", [False, True])
def test_agrees_with_the_reference_over_whole_answers(toy_networks, make_prompts, make_context, full):
    from tiny_ablation.engine.bare.model import Bare
    from tiny_ablation.engine.reference import Reference

    network = toy_networks["llama"]
    prompts = make_prompts(network.shape.d_vocab, n=3, answers=3)
    name = metric("seq_logprob_diff" if full else "logit_diff")
    reference = reference_of(*make_prompts(network.shape.d_vocab, seed=1))
    (arm,) = ABLATION.plan(config(layers=[0]), make_context(network, prompts, full=full, reference=reference))
    slow = Reference(Bare(network.hf), prompts, [name], full)
    for result in Executor(network, prompts, [row.intervention for row in arm.rows], [name], full=full):
        for column, example in enumerate(result.examples):
            for row, values in enumerate(result.values[name.name]):
                expected = slow.values(arm.rows[row].intervention, example)[name.name]
                assert values[column].item() == pytest.approx(expected, abs=5e-5)


def test_means_of_two_prompts_by_hand(toy_networks, make_context):
    """Captured, averaged and put back with plain hooks on the plain model."""
    network = toy_networks["llama"]
    first, second, evaluated = (5, 6, 7), (5, 6, 8, 9), (3, 4, 6)
    context = make_context(network, [prompt(*evaluated)], reference=reference_of(prompt(*first), prompt(*second)))
    (arm,) = ABLATION.plan(config(layers=[1], heads=[2]), context)
    mean = torch.cat([heads_of(network, first, 1), heads_of(network, second, 1)])[:, 2].mean(0)

    def put_in(_module, args):
        new = args[0].clone()
        new.unflatten(-1, (network.shape.n_heads, -1))[0, :, 2] = mean
        return (new,)

    handle = network.hf.model.layers[1].self_attn.o_proj.register_forward_pre_hook(put_in)
    with torch.no_grad():
        logits = network.hf(input_ids=torch.tensor([evaluated])).logits[0, -1]
    handle.remove()
    result = Executor(network, context.clean, [arm.rows[0].intervention], [metric("logit_diff")]).run(0)
    got = result.values["logit_diff"][0, 0].item()
    assert got == pytest.approx((logits[1] - logits[2]).item(), abs=5e-5)
    assert abs(got - result.baseline["logit_diff"][0].item()) > 0.01


def test_means_by_position_meet_at_the_last_token(toy_networks, make_context):
    network = toy_networks["llama"]
    first, second = (5, 6, 7), (8, 9)
    context = make_context(network, [prompt(3, 4, 6), prompt(3, 4)], reference=reference_of(prompt(*first), prompt(*second)))
    (arm,) = ABLATION.plan(config(mean="position"), context)
    means, rows = mean_table(arm)
    a, b = heads_of(network, first, 0), heads_of(network, second, 0)
    for distance, expected in enumerate([(a[2] + b[1]) / 2, (a[1] + b[0]) / 2, a[0]]):
        torch.testing.assert_close(means[rows[0][2 - distance]], expected, atol=1e-6, rtol=0)
    assert rows[1] == rows[0][1:]
    assert arm.notes["reference"]["tokens_per_mean"] == {"min": 1, "max": 2}


def test_means_by_template(toy_networks, make_context):
    network = toy_networks["llama"]
    reference = reference_of(prompt(5, 6, 7), prompt(8, 9), templates=["a", "b"])
    context = make_context(network, [prompt(3, 4), prompt(4, 3)], templates=["b", "a"], reference=reference)
    (arm,) = ABLATION.plan(config(mean="template"), context)
    means, rows = mean_table(arm)
    torch.testing.assert_close(means[rows[0][0]], heads_of(network, (8, 9), 0).mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(means[rows[1][1]], heads_of(network, (5, 6, 7), 0).mean(0), atol=1e-6, rtol=0)


def test_a_prompt_counts_as_often_as_it_stands_in_the_reference_set(toy_networks, make_context):
    """Shared prefixes and equal prompts are computed once, and counted each time."""
    network = toy_networks["gpt2"]
    reference = [prompt(5, 6, 7), prompt(5, 6, 7), prompt(5, 6, 9)]
    (arm,) = ABLATION.plan(config(), make_context(network, [prompt(3, 4)], reference=reference_of(*reference)))
    means, _ = mean_table(arm)
    apart = []
    for one in reference:
        (alone,) = ABLATION.plan(config(), make_context(network, [prompt(3, 4)], reference=reference_of(one)))
        apart.append(mean_table(alone)[0])
    torch.testing.assert_close(means, torch.stack(apart).mean(0), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("keys", "dataset"), [({}, {"n_examples": 8}), ({"n_reference": 10}, {"n_examples": 8})])
def test_the_reference_set_never_holds_an_evaluated_row(run_toy, keys, dataset):
    prepared = run_toy(config(layers=[0], **keys), **dataset).prepared
    means = prepared.arms[0].rows[0].intervention.edits[0].replacement.lookup.means
    evaluated = {t.clean_ids for t in prepared.tokens}
    assert {p.ids for p in means.prompts}.isdisjoint(evaluated)
    assert {p.name for p in means.prompts}.isdisjoint(t.example.id for t in prepared.tokens)
    notes = prepared.arms[0].notes["reference"]
    n = min(keys.get("n_reference", 256), len(prepared.spec.corpus.examples) - len(prepared.tokens))
    assert len(means.prompts) == notes["n"] == n > 0
    assert sum(notes["templates"].values()) == sum(notes["splits"].values()) == n
    assert notes["tokens_per_mean"]["min"] == notes["n_tokens"] == sum(len(p.ids) for p in means.prompts)


def test_a_run_of_a_split_takes_its_means_from_the_others(run_toy):
    from tiny_ablation.config.schema import Split

    prepared = run_toy(config(layers=[0]), n_examples=None, split=Split.test).prepared
    assert set(prepared.arms[0].notes["reference"]["splits"]) <= {"train", "dev"}


def test_the_seed_draws_a_reference_set_only_where_there_is_a_choice():
    assert ABLATION.random_components(config(n_reference=10), 11) == ("reference",)
    assert ABLATION.random_components(config(n_reference=10), 10) == ()


def test_an_evaluated_corpus_leaves_no_reference(run_toy):
    with pytest.raises(ConfigError, match=r"whole corpus.*dataset\.n_examples.*dataset\.split"):
        run_toy(config(), n_examples=None)


def test_a_template_without_reference_rows_is_refused(toy_networks, make_context):
    reference = reference_of(prompt(5, 6), templates=["a"])
    context = make_context(toy_networks["llama"], [prompt(3, 4, name="q7")], templates=["b"], reference=reference)
    with pytest.raises(ConfigError, match=r"ablation\.mean=template.*q7 \(template 'b'\).*ablation\.mean=overall"):
        ABLATION.plan(config(mean="template"), context)


def test_a_position_without_reference_tokens_is_refused_where_it_is_replaced(toy_networks, make_context):
    context = make_context(toy_networks["llama"], [prompt(3, 4, 5, name="q7")], reference=reference_of(prompt(5, 6)))
    with pytest.raises(ConfigError, match=r"q7 \(3 tokens, none 2 before the last\)"):
        ABLATION.plan(config(mean="position"), context)
    assert ABLATION.plan(config(mean="position", positions="last"), context)


def test_positions_of_an_answer_have_no_means(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab), full=True)
    with pytest.raises(ConfigError, match=r"metrics\.span=full"):
        ABLATION.plan(config(mean="position"), context)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mean": "median"}, r"ablation\.mean=median: choose one of overall"),
        ({"n_reference": 0}, r"ablation\.n_reference=0"),
        ({"component": "resid"}, r"ablation\.component=resid: choose one of z, q, k, v"),
        ({"positions": "first"}, r"ablation\.positions=first"),
        ({"heads": []}, r"ablation\.heads=\[\]: the list is empty"),
    ],
)
def test_wrong_settings_are_refused_before_the_model(keys, message):
    with pytest.raises(ConfigError, match=message):
        checked(ABLATION, config(**keys))


def test_a_key_value_head_that_a_grouped_model_does_not_have(toy_networks, make_prompts, make_context):
    network = toy_networks["llama"]
    context = make_context(network, make_prompts(network.shape.d_vocab))
    with pytest.raises(ConfigError, match="2 key/value heads a layer, 0 to 1; there is no 3"):
        ABLATION.plan(config(component="k", heads=[3]), context)
    assert ABLATION.plan(config(component="q", heads=[3]), context)


def test_the_command_line_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["model=toy", "ablation=heads_mean", "tracking=off", "dataset.n_examples=null"]) == 2
    assert "dataset.n_examples" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
