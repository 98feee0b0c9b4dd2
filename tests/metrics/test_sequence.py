"""Metrics of whole answers, held against log probabilities summed by hand on the plain Hugging Face model."""

import copy

import pytest
import torch

from tests.conftest import SHAPES
from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.config.schema import DatasetConfig, Span
from tiny_ablation.data.corpus import load_corpus
from tiny_ablation.data.tokens import tokenize
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.metrics.registry import metric, metric_names
from tiny_ablation.run.baseline import prompt_of

FULL = [metric(name) for name in metric_names() if metric(name).span == "full"]
FIRST = [metric(name) for name in metric_names() if metric(name).span == "first"]
SAME = {
    "seq_logprob_diff": "logit_diff",
    "seq_logprob_diff_norm": "logit_diff",
    "seq_p_drop": "p_drop",
    "seq_kl_mean": "kl_div",
    "seq_acc_flip_rate": "acc_flip_rate",
}


def by_hand(hf, prompt, answer):
    """The log probability of each token of the answer after the prompt and the tokens before it, one pass each."""
    out = []
    for i, token in enumerate(answer):
        with torch.inference_mode():
            logits = hf(torch.tensor([[*prompt, *answer[:i]]])).logits[0, -1]
        out.append(torch.log_softmax(logits.double(), -1)[token].item())
    return out


def measured(network, prompts, metrics, plan=(), *, full):
    """For each metric, values by prompt name: the baseline, or the first intervention where there is one."""
    out = {m.name: {} for m in metrics}
    for result in Executor(network, prompts, list(plan), metrics, full=full, batch_tokens=64):
        for name in out:
            values = result.values[name][0] if plan else result.baseline[name]
            out[name].update({prompts[e].name: v.item() for e, v in zip(result.examples, values, strict=True)})
    return out


def check_by_hand(network, prompts):
    """Against the plain model in double precision: two results in float32 may be twice as far apart as either is off."""
    found = measured(network, prompts, FULL, full=True)
    exact = copy.deepcopy(network.model.hf).double()
    hand = [[by_hand(exact, p.ids, answer) for answer in (p.target, p.foil)] for p in prompts]
    for prompt, (target, foil) in zip(prompts, hand, strict=True):
        assert found["seq_logprob_diff"][prompt.name] == pytest.approx(sum(target) - sum(foil), abs=5e-5)
        per_token = sum(target) / len(target) - sum(foil) / len(foil)
        assert found["seq_logprob_diff_norm"][prompt.name] == pytest.approx(per_token, abs=5e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_on_toy_models(toy_networks, make_prompts, shape):
    network = toy_networks[shape]
    prompts = make_prompts(network.shape.d_vocab, answers=3)
    assert len({(len(p.target), len(p.foil)) for p in prompts}) > 2
    check_by_hand(network, prompts)


@pytest.mark.slow
def test_sums_on_the_default_model(smollm2_network):
    answers = (
        (" Paris, of course", " Rome"),
        (" Paris", " the city of Rome"),
        (" not far from here", " very far away from it"),
    )
    encode = lambda text: tuple(smollm2_network.model.tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    prompts = [
        Prompt(encode("The capital of France is"), encode(target), encode(foil), {}, f"p{i}")
        for i, (target, foil) in enumerate(answers)
    ]
    assert {len(p.target) for p in prompts} != {1}
    check_by_hand(smollm2_network, prompts)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ablated", [False, True], ids=["baseline", "ablated"])
def test_one_token_answers_give_the_same_as_their_first_token(toy_networks, make_prompts, shape, ablated):
    network = toy_networks[shape]
    prompts = make_prompts(network.shape.d_vocab)
    plan = [Intervention((Edit("z", 0, 1, Scale(0.0)),))] if ablated else []
    full, first = (measured(network, prompts, m, plan, full=m is FULL) for m in (FULL, FIRST))
    for name, same in SAME.items():
        assert full[name] == pytest.approx(first[same], abs=5e-5)
    assert set(SAME) == set(full)


def test_one_token_answers_of_a_corpus(toy_networks):
    """From text to metric: both spans tokenise a one-token answer alike."""
    network = toy_networks["llama"]
    corpus = load_corpus(DatasetConfig(name="facts", family="facts"), seed=0)
    both = [
        tokenize(corpus.examples[:12], network.model.tokenizer, opening=network.model.opening, span=span)
        for span in (Span.first, Span.full)
    ]
    assert both[0] == both[1]
    prompts = [prompt_of(t) for t in both[0]]
    full, first = (measured(network, prompts, m, full=m is FULL) for m in (FULL, FIRST))
    assert full["seq_logprob_diff"] == pytest.approx(first["logit_diff"], abs=5e-5)


def test_a_flip_needs_the_whole_target(toy_networks):
    """Greedy decoding by hand: the model's own continuation is right, and wrong once its second token is exchanged."""
    network = toy_networks["llama"]
    ids = (5, 6, 7, 8)
    with torch.inference_mode():
        own = network.hf.generate(torch.tensor([ids]), max_new_tokens=2, do_sample=False)[0, 4:].tolist()
    other = (own[1] + 1) % network.shape.d_vocab
    whole, half = Prompt(ids, tuple(own), (1,), {}, "whole"), Prompt(ids, (own[0], other), (1,), {}, "half")
    everything = tuple(Edit("z", layer, head, Scale(-3.0)) for layer in range(2) for head in range(4))
    flips = measured(network, [whole, half], FULL, [Intervention(everything)], full=True)["seq_acc_flip_rate"]
    first_flips = measured(network, [whole], FIRST, [Intervention(everything)], full=False)["acc_flip_rate"]
    assert first_flips["whole"] == 1.0  # the intervention changes the first token
    assert flips == {"whole": 1.0, "half": 0.0}
