"""Model files of a few hundred kilobytes, for the tests of the sources and the loader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny_ablation.models.sources.toy import N_HEADS, N_KV_HEADS, toy_llama

MakeFile = Callable[[Path], Path]


@pytest.fixture
def hf_directory() -> MakeFile:
    """Makes a Hugging Face directory at a path; returns the path."""
    return write_directory


@pytest.fixture
def gguf_file() -> MakeFile:
    """Makes a GGUF file at a path; returns the path."""
    return write_gguf


def write_directory(directory: Path, seed: int = 0) -> Path:
    """The toy model of a seed as `save_pretrained` writes it."""
    model, tokenizer = toy_llama(seed)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def write_gguf(path: Path, alter: "Callable[[Any], object]" = lambda _writer: None) -> Path:
    """The toy model as a GGUF file with tied embeddings and a byte-level tokenizer without merges; `alter` adds to it."""
    import gguf

    model, tokenizer = toy_llama()
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(range(config.vocab_size)))
    writer.add_token_types([3] + [1] * (config.vocab_size - 1))
    writer.add_token_merges(["i s"])
    for role in ("bos", "eos", "pad"):
        getattr(writer, f"add_{role}_token_id")(0)
    for name, tensor in _gguf_names(state).items():
        writer.add_tensor(name, tensor)
    alter(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_names(state: dict) -> dict:
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    named = {"token_embd.weight": state["model.embed_tokens.weight"], "output_norm.weight": state["model.norm.weight"]}
    for name, tensor in state.items():
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            heads = {"self_attn.q_proj": N_HEADS, "self_attn.k_proj": N_KV_HEADS}.get(rest.removesuffix(".weight"))
            named[f"blk.{layer}.{parts[rest.removesuffix('.weight')]}.weight"] = _interleave(tensor, heads)
    return named


def _interleave(tensor, heads):
    """GGUF stores the two halves of a rotary pair side by side."""
    if heads is None:
        return tensor
    rows, columns = tensor.shape
    return tensor.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).copy()
