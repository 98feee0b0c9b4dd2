"""Folded weights: the same function, and the same ablations as TransformerLens' processed weights."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, GemmaConfig, Qwen2Config

from tiny_ablation.errors import ModelError
from tiny_ablation.models.folding import fold_weights
from tiny_ablation.models.sources.toy import toy_gpt2, toy_llama, toy_neox

SHAPES = {"llama": toy_llama, "gpt2": toy_gpt2, "neox": toy_neox}
D_HEAD = 8
IDS = torch.tensor([[5, 300, 17, 402, 33, 9]])
PROJECTIONS = {
    "llama": lambda model: model.model.layers[0].self_attn.o_proj,
    "gpt2": lambda model: model.transformer.h[0].attn.c_proj,
    "neox": lambda model: model.gpt_neox.layers[0].attention.dense,
}


def fold(model):
    folded = copy.deepcopy(model)
    fold_weights(folded)
    return folded


def log_probs(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits.log_softmax(-1)


def without_head(model, projection, head: int) -> torch.Tensor:
    def zero(_module, args):
        z = args[0].clone()  # (1, seq, n_heads * d_head)
        z[..., head * D_HEAD : (head + 1) * D_HEAD] = 0
        return (z,)

    handle = projection.register_forward_pre_hook(zero)
    try:
        return log_probs(model)
    finally:
        handle.remove()


@pytest.mark.parametrize("shape", SHAPES)
def test_folding_keeps_every_log_probability(shape: str) -> None:
    model, _ = SHAPES[shape]()
    folded = fold(model)
    assert torch.allclose(log_probs(model), log_probs(folded), atol=1e-4)
    assert torch.equal(log_probs(model).argmax(-1), log_probs(folded).argmax(-1))


@pytest.mark.parametrize("shape", SHAPES)
def test_zero_ablation_agrees_with_transformer_lens_processed_weights(shape: str) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    model, tokenizer = SHAPES[shape]()
    folded = fold(model)
    tokenizer.bos_token = None  # with one, the bridge looks for the tokenizer's files
    bridge = TransformerBridge.boot_transformers("toy", hf_model=model, tokenizer=tokenizer, device="cpu")
    bridge.enable_compatibility_mode(disable_warnings=True, center_unembed=False)
    for head in range(4):

        def zero(z, hook, head=head):
            z = z.clone()  # (1, seq, n_heads, d_head)
            z[:, :, head] = 0
            return z

        with torch.no_grad():
            theirs = bridge.run_with_hooks(IDS, fwd_hooks=[("blocks.0.attn.hook_z", zero)]).log_softmax(-1)
        assert torch.allclose(without_head(folded, PROJECTIONS[shape](folded), head), theirs, atol=1e-4)


@pytest.mark.parametrize(("shape", "moves"), [("llama", False), ("gpt2", True), ("neox", True)])
def test_only_value_biases_make_zero_ablation_differ(shape: str, moves: bool) -> None:
    model, _ = SHAPES[shape]()
    folded = fold(model)
    raw_effect = without_head(model, PROJECTIONS[shape](model), 1) - log_probs(model)
    folded_effect = without_head(folded, PROJECTIONS[shape](folded), 1) - log_probs(folded)
    assert torch.allclose(raw_effect, folded_effect, atol=1e-3) is not moves


def test_gpt2_norms_are_plain_and_its_residual_stream_is_centred() -> None:
    folded = fold(toy_gpt2()[0])
    block = folded.transformer.h[0]
    for norm in (block.ln_1, block.ln_2, folded.transformer.ln_f):
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert torch.equal(norm.bias, torch.zeros_like(norm.bias))
    assert torch.equal(block.attn.c_attn.bias[64:], torch.zeros(32))
    assert folded.lm_head.bias is not None
    for written in (folded.transformer.wte.weight, block.attn.c_proj.weight, block.mlp.c_proj.weight):
        assert written.mean(-1).abs().max() < 1e-6
    states = folded(IDS, output_hidden_states=True).hidden_states[1]
    assert states.mean(-1).abs().max() < 1e-5


def test_the_embedding_is_not_touched_through_the_tied_unembedding() -> None:
    model, _ = toy_llama()
    folded = fold(model)
    assert torch.equal(model.model.embed_tokens.weight, folded.model.embed_tokens.weight)
    assert not torch.equal(folded.lm_head.weight, folded.model.embed_tokens.weight)
    assert folded.config.tie_word_embeddings is False


def test_grouped_value_biases_reach_an_output_projection_that_had_no_bias() -> None:
    config = Qwen2Config(
        vocab_size=500,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    folded = fold(model)
    attention = folded.model.layers[0].self_attn
    assert torch.allclose(log_probs(model), log_probs(folded), atol=1e-4)
    assert torch.equal(attention.v_proj.bias, torch.zeros(16))
    bias = model.model.layers[0].self_attn.v_proj.bias.view(2, 8)
    moved = model.model.layers[0].self_attn.o_proj.weight @ bias[[0, 0, 1, 1]].flatten()
    assert torch.allclose(attention.o_proj.bias, moved, atol=1e-5)


def test_half_precision_keeps_its_type() -> None:
    folded = fold(toy_gpt2()[0].to(torch.bfloat16))
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.bfloat16}


def test_an_architecture_that_is_not_known_names_the_key() -> None:
    config = GemmaConfig(
        vocab_size=100,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match=r"model\.weights=folded.*Gemma.*model\.weights=raw"):
        fold_weights(model)
