"""Rotary embeddings that depend on the length of a prompt: prompts share a pass only where that makes no difference."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config

from tiny_ablation.ablations.shared.replacements import Scale, patch_from
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ModelError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import build_network
from tiny_ablation.models.sources.toy import toy_llama

SHORT = 8  # tokens up to which the models were first trained
SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROPES = {
    "longrope": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0, 3.0, 4.0, 5.0],
    },
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
}


def build(kind, attention="sdpa"):
    if kind == "longrope":
        long = {"max_position_embeddings": 64, "original_max_position_embeddings": SHORT}
        config = Phi3Config(**SIZES, **long, rope_parameters=ROPES[kind])
    else:
        config = LlamaConfig(**SIZES, max_position_embeddings=SHORT, rope_parameters=ROPES[kind])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hf = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)  # so that attention looks somewhere
    return hf.eval().requires_grad_(False)


def network(kind):
    return build_network(LoadedModel(kind, build(kind), toy_llama()[1], False, kind, {}))


def prompts(lengths, stem=tuple(range(5, 12))):
    """Prompts that share their beginning, which is computed in another way where they are longer."""
    return [Prompt((*stem, *range(20 + n, 40 + n))[:n], (1,), (2,), {}, f"{i}") for i, n in enumerate(lengths)]


@torch.no_grad()
def judged(kind, prompt, zeroed=None):
    """The logits behind one prompt, alone in a fresh model, with a head of a layer zeroed."""
    hf = build(kind, "eager")
    if zeroed is not None:
        layer, head = zeroed

        def zero(_module, args):
            z = args[0].clone()
            z[..., 8 * head : 8 * head + 8] = 0
            return (z,)

        hf.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(zero)
    return hf(input_ids=torch.tensor([prompt.ids])).logits[0, -1]


def logit_diff(logits):
    return (logits[1] - logits[2]).double()


def measured(model, asked, plan):
    executor = Executor(model, asked, plan, [metric("logit_diff")])
    baseline, values = torch.zeros(len(asked)).double(), torch.zeros(len(plan), len(asked)).double()
    for result in executor:
        baseline[list(result.examples)] = result.baseline["logit_diff"]
        values[:, list(result.examples)] = result.values["logit_diff"]
    return executor, baseline, values


LENGTHS = [6, 7, 12, 8, 9, 7, 9, 6, 12, 10]


@pytest.mark.parametrize("kind", list(ROPES))
def test_prompts_on_both_sides_are_computed_as_alone(kind):
    model, asked = network(kind), prompts(LENGTHS)
    sites = [(layer, head) for layer in range(2) for head in range(4)]
    plan = [Intervention((Edit("z", *site, Scale(0.0), "all"),)) for site in sites]
    executor, baseline, values = measured(model, asked, plan)
    expected = torch.stack([logit_diff(judged(kind, prompt)) for prompt in asked])
    torch.testing.assert_close(baseline, expected, atol=5e-5, rtol=0)
    for site, row in zip(sites, values, strict=True):
        expected = torch.stack([logit_diff(judged(kind, prompt, site)) for prompt in asked])
        torch.testing.assert_close(row, expected, atol=5e-5, rtol=0)
    assert len({model.trees(n).length_class(n) for n in LENGTHS}) > 1
    for batch in executor.batches:
        assert len({model.trees(20).length_class(len(s.ids)) for s in batch.sequences}) == 1
    assert any(batch.sees is not None for batch in executor.batches)


@pytest.mark.parametrize("kind", list(ROPES))
def test_a_source_run_of_another_length_is_computed_as_alone(kind):
    """All of the residual stream at the answer comes from a donor, so that the logits are the donor's."""
    model, asked = network(kind), prompts([6, 7, 12, 9])
    donors = [asked[2], asked[3], asked[0], asked[1]]
    donors = [Prompt((50, *donor.ids[1:]), (1,), (2,), {}, "") for donor in donors]
    whole = Intervention((Edit("resid_post", 1, None, patch_from(donors, asked), "last"),))
    _, _, values = measured(model, asked, [whole])
    expected = torch.stack([logit_diff(judged(kind, donor)) for donor in donors])
    torch.testing.assert_close(values[0], expected, atol=5e-5, rtol=0)


@pytest.mark.parametrize("kind", list(ROPES))
def test_a_prompt_does_not_depend_on_those_before(kind):
    model, (short, long) = network(kind), prompts([7, 20])
    before = model.forward(torch.tensor([short.ids])).logits
    model.forward(torch.tensor([long.ids]))
    middle = model.forward(torch.tensor([long.ids[:10]])).logits[0, -1]
    assert torch.equal(model.forward(torch.tensor([short.ids])).logits, before)
    torch.testing.assert_close(middle, judged(kind, Prompt(long.ids[:10], (1,), (2,), {}, "")), atol=5e-5, rtol=0)


@pytest.mark.parametrize("kind", list(ROPES))
def test_two_answers_on_two_sides_are_refused(kind):
    asked = [Prompt(tuple(range(5, 13)), (1,), (2, 3, 4), {}, "both sides")]
    with pytest.raises(ModelError, match=r"metrics\.span=full"):
        list(Executor(network(kind), asked, [], [metric("seq_logprob_diff")], full=True))
