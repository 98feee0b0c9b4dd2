"""Direct logit attribution, the logit lens and attention, against hooks by hand on the bare model."""

import pytest
import torch

from tests.families import FAMILIES, hooked, tiny
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.engine.readouts import MOST_ATTENDED, read_prompt
from tiny_ablation.models.loader import LoadedModel
from tiny_ablation.models.network import Network, build_network
from tiny_ablation.models.sources.toy import toy_llama

IDS = (5, 9, 31, 12, 40, 9, 31)
PROMPT = Prompt(IDS, (17,), (44,), {}, "p")
# What differs in how a head's output reaches the logits: norms and factors behind attention, biases, blocks in parallel.
ALWAYS = ("llama", "gpt2", "neox", "gemma3", "granite", "opt")
NAMES = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@pytest.fixture(scope="module", params=NAMES)
def family(request) -> tuple[str, Network]:
    name = request.param
    return name, build_network(LoadedModel(name, tiny(name), toy_llama()[1], False, name, {}))


def last_norm(network):
    """What the final norm was given and gave at the last token, and the difference of logits before the model scales them."""
    seen = []
    norm, unembed = network.final_norm, network.unembed
    hook = norm.register_forward_hook(lambda _m, args, out: seen.append((args[0][0, -1], out[0, -1])))
    with torch.no_grad():
        network.hf(torch.tensor([IDS]))
    hook.remove()
    (given, gave) = seen[0]
    return given, gave, (unembed.weight[17] - unembed.weight[44]).detach()


def test_what_is_written_sums_to_the_difference_of_logits(family):
    _, network = family
    _, gave, towards = last_norm(network)
    read = read_prompt(network, PROMPT)
    bias = getattr(network.final_norm, "bias", None)
    constant = 0.0 if bias is None else float(bias.detach() @ towards)
    total = read.embedding + float(read.attn_out.sum() + read.mlp_out.sum()) + constant
    assert total == pytest.approx(float(gave @ towards), abs=5e-5 * max(1.0, float(gave.norm())))
    assert float(read.lens[-1]) == pytest.approx(float(gave @ towards), abs=5e-5 * max(1.0, float(gave.norm())))


def test_heads_sum_to_their_attention_but_for_its_bias(family):
    _, network = family
    read = read_prompt(network, PROMPT)
    for layer, part in enumerate(network.parts):
        if {"z", "attn_out"} <= part.points.keys():
            project = part.points["z"].module
            rest = float(read.attn_out[layer] - read.heads[layer].sum())
            if getattr(project, "bias", None) is None:
                assert rest == pytest.approx(0.0, abs=5e-5 * max(1.0, float(read.heads[layer].abs().max())))


def test_a_head_is_what_its_removal_takes_from_the_frozen_sum(family):
    """Remove a head of the last block by hand: the stream loses what the head wrote, and no later part makes anything of it."""
    name, network = family
    read = read_prompt(network, PROMPT)
    last = network.shape.n_layers - 1
    if network.parallel or name in ("gemma2", "gemma3", "olmo2", "olmo3", "glm4"):
        pytest.skip("a norm behind attention, whose scale is frozen, or an MLP beside it")
    given, gave, towards = last_norm(network)
    written = sublayer(network, name, last, removed=False) - sublayer(network, name, last, removed=True)
    norm = network.final_norm
    if type(norm).__name__ == "LayerNorm":
        scale = norm.weight / torch.sqrt(given.var(correction=0) + norm.eps)
        written = written - written.mean()
    else:
        scale = gave / given
    assert float(read.heads[last, 1]) == pytest.approx(float((written * scale) @ towards), abs=2e-4)


def sublayer(network, name, layer, *, removed):
    """(d_model,) what attention of a block adds at the last token, with head 1 zeroed by hand if asked."""
    seen = []
    hooks = [network.parts[layer].points["attn_out"].on_read(lambda v: seen.append(v.flatten(0, -3)[-1, 0].clone()))]
    if removed:
        hooks.append(hooked(network.hf, name, "z", layer, torch.zeros_like, 1))
    with torch.no_grad():
        network.hf(torch.tensor([IDS]))
    for hook in hooks:
        hook.remove()
    return seen[0]


def test_attention_is_what_the_eager_model_gives(family):
    name, network = family
    read = read_prompt(network, PROMPT)
    hf = tiny(name)
    hf.set_attn_implementation("eager")
    with torch.no_grad():
        patterns = hf(torch.tensor([IDS]), output_attentions=True).attentions
    assert read.attention is not None
    assert torch.allclose(read.attention, torch.stack([p[0].float() for p in patterns]), atol=5e-5)
    assert torch.allclose(read.attention.sum(-1), torch.ones(()), atol=1e-4) or name == "gpt_oss"  # it has a sink


def test_promoted_tokens_are_the_contributions_to_each_logit(family):
    _, network = family
    read = read_prompt(network, PROMPT)
    towards = read.promotes(0)
    assert towards.shape == (network.shape.n_heads, network.unembed.weight.shape[0])
    assert torch.allclose(towards[:, 17] - towards[:, 44], read.heads[0], atol=5e-5)


def test_long_prompts_are_read_without_attention():
    network = build_network(LoadedModel("neox", tiny("neox"), toy_llama()[1], False, "neox", {}))
    ids = tuple(5 + i % 20 for i in range(MOST_ATTENDED + 1))
    assert read_prompt(network, Prompt(ids, (17,), (44,), {}, "p")).attention is None
