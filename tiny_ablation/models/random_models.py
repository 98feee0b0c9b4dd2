"""Tiny models with random weights of every causal architecture that the installed transformers has, from shrunken configs.

The weights are scaled up so that every part matters: effects are of the order of the logits. Windows are shorter than the
prompts of a test, each kind of layer that a config has stays, and so do the relations of heads to keys and values.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from tiny_ablation.errors import ModelError

WIDTH, HEADS, KV_HEADS, D_HEAD, HIDDEN, VOCABULARY, LAYERS, CONTEXT, WINDOW = 64, 4, 2, 16, 96, 128, 4, 256, 4

# Keys that configs share, after the value that replaces whatever the config says.
_TABLE = f"""
    {WIDTH} hidden_size d_model n_embd embedding_dim emb_dim embedding_size word_embed_proj_dim attention_hidden_size lru_width
    {WIDTH} input_embedding_size output_embedding_size hidden_size_global adapter_in_dim adapter_input_size shape_embed_dim
    {WIDTH} pronunciation_embed_dim dim_model_base ple_embed_dim
    {HEADS} num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads encoder_attention_heads
    {HEADS} num_decoder_attention_heads num_encoder_attention_heads swa_num_attention_heads index_n_heads linear_num_heads
    {HEADS} linear_num_value_heads n_routed_experts num_experts num_local_experts moe_num_experts num_layers n_layers n_layer
    {HEADS} num_hidden_layers decoder_layers num_decoder_layers mamba_num_heads num_blocks o_groups
    2 encoder_layers num_encoder_layers num_experts_per_tok moe_k moe_topk num_experts_per_token top_k_experts
    2 linear_num_key_heads n_group n_groups hc_mult hc_count num_codebooks num_layers_per_stack n_layers_per_attn_res_block
    2 zero_expert_num n_mamba_heads mamba_n_groups num_kv_shared_layers
    1 topk_group num_random_blocks moe_layer_start_index num_hash_layers first_k_dense_replace
    {D_HEAD} head_dim d_head dim_head attention_head_dim attention_head_size kv_channels swa_head_dim index_head_dim v_head_dim
    {D_HEAD} global_head_dim linear_head_dim linear_key_head_dim linear_value_head_dim mamba_d_head mamba_head_dim
    {D_HEAD} qk_nope_head_dim mamba_d_state ssm_state_size state_size time_step_rank mamba_dt_rank hidden_size_per_layer_input
    {D_HEAD} laurel_rank adapter_rank d_rel hc_lowrank o_lora_rank query_pre_attn_scalar router_hidden_size
    8 qk_rope_head_dim rotary_dim mamba_n_heads mamba_chunk_size chunk_size block_size position_bias_num_buckets prompt_types
    8 segment_types num_buckets prompt_length gated_norm_rank split_ngram_parts
    24 qk_head_dim
    32 q_lora_rank kv_lora_rank
    {HIDDEN} intermediate_size ffn_dim d_inner dff dim_ff decoder_ffn_dim encoder_ffn_dim ffn_hidden_size feed_forward_size
    {HIDDEN} intermediate_size_mlp dense_intermediate_size n_inner
    48 moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size shared_intermediate_size
    48 expert_ffn_hidden_size moe_shared_expert_intermediate_size
    {VOCABULARY} vocab_size vocab_size_per_layer_input pronunciation_vocab_size shape_vocab_size unpadded_vocab_size
    {VOCABULARY} encoder_hash_byte_group_vocab mamba_d_ssm ngram_vocab_size_base
    {CONTEXT} max_position_embeddings n_positions n_ctx max_seq_len max_target_positions max_source_positions context_length
    {CONTEXT} position_bias_max_distance relative_max_distance rel_extent mem_len
    {WINDOW} sliding_window sliding_window_size window_size attention_window_size attention_chunk_size index_topk
    {WINDOW} index_block_size index_topk_blocks local_attention_window_len keep_window_size
"""
SIZES = {name: int(size) for size, *names in map(str.split, _TABLE.strip().splitlines()) for name in names}
SIZES["is_decoder"] = True
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}

# What no rule gives: per-layer patterns that other keys make, sizes that must equal each other, keys without a default.
_SWA = {f"swa_{name}": 4 for name in ("num_attention_heads", "num_key_value_heads")} | {
    "swa_q_lora_rank": 32,
    "swa_kv_lora_rank": 32,
    "swa_head_dim": 24,
    "swa_qk_nope_head_dim": 16,
    "swa_v_head_dim": 16,
}
_DOTS3 = {"num_key_value_heads": HEADS, "head_dim": 24, **_SWA}
_HYBRID = {"layers_block_type": ["linear_attention", "hybrid"] * 2, "num_hidden_layers": 4}
_INDEXER = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": D_HEAD,
    "head_dim": D_HEAD,
    "indexer_budget": 8,
    "indexer_compress_ratio": 4,
}
_ADAPTER = {"adapter_out_dim": WIDTH}
_GEMMA4 = {
    "global_head_dim": 2 * D_HEAD,
    "num_hidden_layers": 6,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}}
    },
    "dbrx": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0},
    },
    "dots1": {"n_shared_experts": 1},
    "dots3_note": {"text_config": _DOTS3, "vision_config": _ADAPTER, "audio_config": _ADAPTER},
    "dots3_note_text": _DOTS3,
    "gemma4": {"text_config": _GEMMA4},
    "gemma4_text": _GEMMA4,
    "gemma4_unified": {"text_config": _GEMMA4},
    "gemma4_unified_text": _GEMMA4,
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "granitemoeshared": {"shared_intermediate_size": 48},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "laguna": {
        "num_attention_heads_per_layer": [HEADS] * LAYERS,
        "layer_types": ["full_attention", "sliding_attention"] * 2,
        "mlp_layer_types": ["dense", *["sparse"] * 3],
        "num_hidden_layers": LAYERS,
    },
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"num_heads": 8},
    "mllama": {"text_config": {"cross_attention_layers": [1]}},
    "nemotron": {"num_key_value_heads": KV_HEADS},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "reformer": {"axial_pos_embds_dim": (32, 32), "axial_pos_shape": (16, 16)},
    "xmod": {"default_language": "en_XX"},
    "zamba": _HYBRID,
    "zamba2": _HYBRID,
    "zaya": {"num_experts_per_tok": 1},
}
_DRAFTS = "it drafts for another model, whose hidden states it needs"
_DECODER = "its causal language model is built from the config of its decoder, which has no model type of its own"
NOT_ALONE = {
    "gemma4_assistant": _DRAFTS,
    "gemma4_unified_assistant": _DRAFTS,
    "musicgen": _DECODER,
    "musicgen_melody": _DECODER,
}
# Keys that are needed though their default is None.
_NEEDED = ("head_dim", "num_experts_per_tok", "n_routed_experts")


def architectures() -> list[str]:
    """The model types of which transformers has a causal language model, sorted."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def small_config(name: str) -> Any:
    """The config of a tiny model of an architecture. Raises ModelError if it is no model by itself."""
    from transformers import CONFIG_MAPPING

    if name in NOT_ALONE:
        raise ModelError(NOT_ALONE[name])
    return _shrunk(CONFIG_MAPPING[name], SPECIAL.get(name, {}))


def _shrunk(cls: Any, special: Mapping[str, Any]) -> Any:
    names: dict[str, Any] = {}
    for field in fields(cls):
        made = field.default_factory() if field.default_factory is not MISSING else None
        names[field.name] = made if field.default is MISSING else field.default
    keys = {name: _small(name, value, names) for name, value in names.items() if _is_size(name, value)}
    full = cls()
    for name in cls.sub_configs:
        inner = getattr(full, name, None)
        if inner is not None:
            keys[name] = _shrunk(type(inner), special.get(name, {}))
    keys |= _per_layer(full, names)
    keys |= {name: value for name, value in TOKENS.items() if isinstance(names.get(name), (int, list))}
    return cls(**(keys | {name: value for name, value in special.items() if name not in cls.sub_configs}))


def _is_size(name: str, value: Any) -> bool:
    if name == "is_decoder":
        return value is False
    if value is None:
        return name in _NEEDED
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and value > 0
        and (name in SIZES or "key_value_heads" in name or name == "num_kv_heads")
    )


def _small(name: str, value: int, names: Mapping[str, Any]) -> int:
    if name in SIZES:
        return SIZES[name]
    heads = names.get(name.replace("key_value", "attention"), names.get("num_attention_heads"))
    return 1 if value == 1 else HEADS if value == heads else KV_HEADS


def _per_layer(full: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    """Lists with an entry for each layer, cut to few layers that show all kinds together."""
    layers = getattr(full, "num_hidden_layers", None)
    if not isinstance(layers, int) or "num_hidden_layers" not in {*names, *full.attribute_map}:
        return {}
    lists = {
        name: value
        for name in names
        if isinstance(value := full.__dict__.get(name), (list, tuple))
        and len(value) == layers
        and len({*map(str, value)}) < layers  # else numbers of blocks
    }
    if not lists:
        return {}
    kinds = list(zip(*lists.values(), strict=True))
    first = sorted({kinds.index(kind) for kind in kinds})
    chosen = sorted([*first, *(i for i in range(layers) if i not in first)][: max(LAYERS, len(first))])
    return {name: [value[i] for i in chosen] for name, value in lists.items()} | {
        full.attribute_map.get("num_hidden_layers", "num_hidden_layers"): len(chosen)
    }


def random_model(name: str, *, seed: int = 0, **how: Any) -> Any:
    """The model of an architecture (transformers' model type) in float32 and eval mode, on the CPU; `how` is for `from_config`.

    Raises:
        Exception: of any kind, if transformers cannot build it.
    """
    return drawn(small_config(name), seed=seed, **how)


def drawn(config: Any, *, seed: int, **how: Any) -> Any:
    """The model of a config with random weights so large that effects are of the order of logits, in eval mode."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, **how)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 1.5 * parameter.shape[-1] ** -0.5)
                else:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)
