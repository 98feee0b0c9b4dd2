"""Models whose layers look back a number of tokens only: a prefix tree must not be larger than that."""

import pytest
import torch
from transformers import GPTNeoConfig, GPTNeoForCausalLM, MistralConfig, MistralForCausalLM

from tiny_ablation.ablations.shared.replacements import Scale
from tiny_ablation.engine.edits import Edit, Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.errors import ModelError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import build_network
from tiny_ablation.models.sources.toy import toy_llama

STEM = tuple(range(5, 12))
PLAN = [Intervention((Edit("z", layer, head, Scale(0.0), "all"),)) for layer in range(2) for head in range(2)]


def prompts(target=(1,), foil=(2,)):
    return [Prompt((*STEM, 20 + i, 30 + i, 4), target, foil, {}, str(i)) for i in range(8)]


def network(family, window):
    """Random weights; every second block of GPT-Neo, and every block of Mistral, looks back `window` tokens."""
    tokenizer = toy_llama()[1]
    torch.manual_seed(0)
    if family == "neo":
        neo = GPTNeoConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=window,
            max_position_embeddings=64,
            intermediate_size=64,
        )
        hf = GPTNeoForCausalLM(neo)
    else:
        mistral = MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            sliding_window=window,
            attn_implementation="sdpa",
        )
        hf = MistralForCausalLM(mistral)
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.mul_(4)  # so that what lies behind the window would be seen in the logits
    return build_network(LoadedModel(f"random-{family}", hf.eval().requires_grad_(False), tokenizer, False, family, {}))


@torch.no_grad()
def judged(network, prompts):
    """The logit difference of every prompt, alone in the bare Hugging Face model."""
    logits = [network.hf(input_ids=torch.tensor([p.ids])).logits[0, -1] for p in prompts]
    return torch.stack([one[p.target[0]] - one[p.foil[0]] for one, p in zip(logits, prompts, strict=True)])


@pytest.mark.parametrize("family", ["mistral", "neo"])
@pytest.mark.parametrize(
    ("window", "trees"), [(6, False), (16, True), (64, True)], ids=["below a prompt", "below all prompts", "above all"]
)
def test_a_tree_stays_within_the_window(family, window, trees):
    model, asked = network(family, window), prompts()
    executor = Executor(model, asked, PLAN, [metric("logit_diff")])
    found = torch.full((len(asked),), torch.nan, dtype=torch.float64)
    for result in executor:
        found[list(result.examples)] = result.baseline["logit_diff"]
    torch.testing.assert_close(found, judged(model, asked).double(), atol=5e-5, rtol=0)
    assert {batch.sees is not None for batch in executor.batches} == {trees}
    assert all(batch.n_nodes <= window for batch in executor.batches if batch.sees is not None)


def test_answers_of_two_lengths_need_a_tree():
    asked = prompts((1,), (2, 3, 5))
    scores = [metric("seq_logprob_diff")]
    assert list(Executor(network("mistral", 64), asked, PLAN, scores, full=True))
    with pytest.raises(ModelError, match=r"metrics\.span=full.*different lengths"):
        list(Executor(network("mistral", 6), asked, PLAN, scores, full=True))
