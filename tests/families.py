"""Tiny models of many architecture families with random weights, and where their parts are, written down by hand.

The weights are scaled up so that every part matters: effects are of the order of the logits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tiny_ablation.models.random_models import drawn

N_LAYERS, N_HEADS, N_KV_HEADS, D_MODEL, D_HEAD, D_MLP, VOCABULARY = 3, 4, 2, 64, 16, 96, 101
SIZES = {"num_hidden_layers": N_LAYERS, "num_attention_heads": N_HEADS, "hidden_size": D_MODEL, "vocab_size": VOCABULARY}
GATED = {**SIZES, "intermediate_size": D_MLP, "num_key_value_heads": N_KV_HEADS, "max_position_embeddings": 256}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


class At(NamedTuple):
    """A place: a module of the block, its side, the first index of unit `u` in its last axis, and how wide units are.

    `factor` is what the model multiplies the values by before it adds them to the residual stream.
    """

    module: str
    side: str
    start: Callable[[int], int] = lambda u: 0
    width: int | None = None
    factor: float = 1.0


class Family(NamedTuple):
    """A config's class, its arguments, where the blocks are, and where the parts of a block are."""

    config: str
    keys: dict[str, Any]
    blocks: str
    places: dict[str, At]


def heads(module: str, side: str, d: int = D_HEAD, first: int = 0, step: int | None = None) -> At:
    """Units of width `d`, the first at `first`, each `step` behind the one before."""
    return At(module, side, lambda u: first + u * (step or d), d)


def _parts(attn: str, o: str, mlp: str, down: str, **qkv: At) -> dict[str, At]:
    return {
        "z": heads(o, "in"),
        **qkv,
        "attn_out": At(attn, "out"),
        "mlp_out": At(mlp, "out"),
        "neurons": At(down, "in", lambda u: u, 1),
    }


_SPLIT = {part: heads(f"self_attn.{part}_proj", "out") for part in "qkv"}
_LLAMA = _parts("self_attn", "self_attn.o_proj", "mlp", "mlp.down_proj", **_SPLIT)
_POST_NORMS = {**_LLAMA, "attn_out": At("post_attention_layernorm", "out"), "mlp_out": At("post_feedforward_layernorm", "out")}
_NO_NEURONS = {name: at for name, at in _LLAMA.items() if name != "neurons"}
_FALCON = ("self_attention", "self_attention.dense", "mlp", "mlp.dense_4h_to_h")
_FALCON_QKV = "self_attention.query_key_value"


def _by_head(module: str) -> dict[str, At]:
    """q, k and v of a head, then those of the next."""
    return {part: heads(module, "out", first=i * D_HEAD, step=3 * D_HEAD) for i, part in enumerate("qkv")}


def _by_part(module: str, n_kv: int = N_HEADS) -> dict[str, At]:
    """All queries, then all keys, then all values."""
    ends = {"q": 0, "k": N_HEADS * D_HEAD, "v": (N_HEADS + n_kv) * D_HEAD}
    return {part: heads(module, "out", first=first) for part, first in ends.items()}


def _grouped(module: str) -> dict[str, At]:
    """Two queries, their key, their value; then the next group."""
    group = 4 * D_HEAD
    queries = At(module, "out", lambda u: u // 2 * group + u % 2 * D_HEAD, D_HEAD)
    return {
        "q": queries,
        "k": heads(module, "out", first=2 * D_HEAD, step=group),
        "v": heads(module, "out", first=3 * D_HEAD, step=group),
    }


def _codegen(module: str) -> dict[str, At]:
    """One head in each of four parts: its query, its value, its key."""
    firsts = {"q": 0, "v": D_HEAD, "k": 2 * D_HEAD}
    return {part: heads(module, "out", first=first, step=3 * D_HEAD) for part, first in firsts.items()}


_BLOOM = {"n_layer": N_LAYERS, "n_head": N_HEADS, "vocab_size": VOCABULARY}
_GPT2 = {**_BLOOM, "n_embd": D_MODEL, "n_positions": 256, "n_inner": D_MLP}
_GPT2_PARTS = ("attn", "attn.c_proj", "mlp", "mlp.c_proj")
_FALCON_KEYS = {**SIZES, "ffn_hidden_size": D_MLP}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 1.0,
    "short_factor": [1.0] * (D_HEAD // 2),
    "long_factor": [2.0 + i for i in range(D_HEAD // 2)],
}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}

FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaConfig", GATED, "model.layers", _LLAMA),
    "mistral": Family("MistralConfig", {**GATED, "sliding_window": 4}, "model.layers", _LLAMA),
    "qwen3": Family("Qwen3Config", {**GATED, "head_dim": D_HEAD}, "model.layers", _LLAMA),
    "gemma2": Family("Gemma2Config", {**GATED, "head_dim": D_HEAD}, "model.layers", _POST_NORMS),
    "gemma3": Family("Gemma3TextConfig", {**GATED, "head_dim": D_HEAD}, "model.layers", _POST_NORMS),
    "olmo2": Family("Olmo2Config", GATED, "model.layers", _POST_NORMS),
    "olmo3": Family("Olmo3Config", {**GATED, "sliding_window": 4}, "model.layers", _POST_NORMS),
    "glm4": Family(
        "Glm4Config",
        {**GATED, **TOKENS, "head_dim": D_HEAD},
        "model.layers",
        {**_LLAMA, "attn_out": At("post_self_attn_layernorm", "out"), "mlp_out": At("post_mlp_layernorm", "out")},
    ),
    "granite": Family(
        "GraniteConfig",
        {**GATED, "residual_multiplier": 0.4},
        "model.layers",
        {**_LLAMA, "attn_out": At("self_attn", "out", factor=0.4), "mlp_out": At("mlp", "out", factor=0.4)},
    ),
    "cohere": Family("CohereConfig", GATED, "model.layers", _LLAMA),
    "mixtral": Family("MixtralConfig", {**GATED, **_EXPERTS}, "model.layers", _NO_NEURONS),
    "qwen3_moe": Family(
        "Qwen3MoeConfig",
        {**GATED, **_EXPERTS, "head_dim": D_HEAD, "num_experts": 4, "moe_intermediate_size": 48},
        "model.layers",
        _NO_NEURONS,
    ),
    "gpt_oss": Family(
        "GptOssConfig", {**GATED, **_EXPERTS, "head_dim": D_HEAD, "sliding_window": 4}, "model.layers", _NO_NEURONS
    ),
    "phi3": Family(
        "Phi3Config",
        {**GATED, **TOKENS, "rope_parameters": _LONGROPE, "original_max_position_embeddings": 9},
        "model.layers",
        _parts("self_attn", "self_attn.o_proj", "mlp", "mlp.down_proj", **_by_part("self_attn.qkv_proj", N_KV_HEADS)),
    ),
    "gpt2": Family("GPT2Config", _GPT2, "transformer.h", _parts(*_GPT2_PARTS, **_by_part("attn.c_attn"))),
    "gpt_bigcode": Family(
        "GPTBigCodeConfig", {**_GPT2, "multi_query": False}, "transformer.h", _parts(*_GPT2_PARTS, **_by_head("attn.c_attn"))
    ),
    "gpt_bigcode_mqa": Family(
        "GPTBigCodeConfig", {**_GPT2, "multi_query": True}, "transformer.h", _parts(*_GPT2_PARTS, **_by_part("attn.c_attn", 1))
    ),
    "neox": Family(
        "GPTNeoXConfig",
        {**SIZES, "intermediate_size": D_MLP},
        "gpt_neox.layers",
        _parts("attention", "attention.dense", "mlp", "mlp.dense_4h_to_h", **_by_head("attention.query_key_value")),
    ),
    "falcon_rw": Family(
        "FalconConfig",
        {**_FALCON_KEYS, "multi_query": False, "new_decoder_architecture": False, "alibi": True, "parallel_attn": False},
        "transformer.h",
        _parts(*_FALCON, **_by_head(_FALCON_QKV)),
    ),
    "falcon_mqa": Family(
        "FalconConfig",
        {**_FALCON_KEYS, "multi_query": True, "new_decoder_architecture": False},
        "transformer.h",
        _parts(*_FALCON, **_by_part(_FALCON_QKV, 1)),
    ),
    "falcon_new": Family(
        "FalconConfig",
        {**_FALCON_KEYS, "new_decoder_architecture": True, "num_kv_heads": N_KV_HEADS},
        "transformer.h",
        _parts(*_FALCON, **_grouped(_FALCON_QKV)),
    ),
    "bloom": Family(
        "BloomConfig",
        {**_BLOOM, "hidden_size": D_MODEL},
        "transformer.h",
        {
            **_parts("self_attention.dense", "self_attention.dense", "mlp.dense_4h_to_h", "mlp.dense_4h_to_h"),
            **_by_head("self_attention.query_key_value"),
        },
    ),
    "mpt": Family(
        "MptConfig",
        {"n_layers": N_LAYERS, "n_heads": N_HEADS, "d_model": D_MODEL, "vocab_size": VOCABULARY},
        "transformer.blocks",
        _parts("attn.out_proj", "attn.out_proj", "ffn.down_proj", "ffn.down_proj", **_by_part("attn.Wqkv")),
    ),
    "opt": Family(
        "OPTConfig",
        {**SIZES, "ffn_dim": D_MLP, "word_embed_proj_dim": D_MODEL, "max_position_embeddings": 256},
        "model.decoder.layers",
        _parts("self_attn", "self_attn.out_proj", "fc2", "fc2", **_SPLIT),
    ),
    "gptj": Family(
        "GPTJConfig",
        {**_GPT2, "rotary_dim": 8},
        "transformer.h",
        _parts("attn", "attn.out_proj", "mlp", "mlp.fc_out", **{part: heads(f"attn.{part}_proj", "out") for part in "qkv"}),
    ),
    "codegen": Family(
        "CodeGenConfig",
        {**_GPT2, "rotary_dim": 8, "n_ctx": 256},
        "transformer.h",
        _parts("attn", "attn.out_proj", "mlp", "mlp.fc_out", **_codegen("attn.qkv_proj")),
    ),
    "gpt_neo": Family(
        "GPTNeoConfig",
        {
            **SIZES,
            "num_layers": N_LAYERS,
            "num_heads": N_HEADS,
            "intermediate_size": D_MLP,
            "attention_types": [[["global", "local", "global"], 1]],
            "window_size": 4,
        },
        "transformer.h",
        _parts(
            "attn",
            "attn.attention.out_proj",
            "mlp",
            "mlp.c_proj",
            **{part: heads(f"attn.attention.{part}_proj", "out") for part in "qkv"},
        ),
    ),
}


def n_units(name: str, component: str) -> int:
    """How many units a component of a family has."""
    if component in ("z", "q"):
        return N_HEADS
    if component in ("k", "v"):
        keys = FAMILIES[name].keys
        if name in ("gpt_bigcode_mqa", "falcon_mqa"):
            return 1
        return keys.get("num_key_value_heads") or keys.get("num_kv_heads") or N_HEADS
    if component == "neurons":
        return 4 * D_MODEL if name in ("bloom", "mpt") else D_MLP
    return D_MODEL


def tiny(name: str, *, seed: int = 0, **changes: Any) -> Any:
    """The model, with eager attention, in float32 and eval mode; `changes` go into its config."""
    import transformers

    family = FAMILIES[name]
    config = getattr(transformers, family.config)(**{**family.keys, "attn_implementation": "eager", **changes})
    return drawn(config, seed=seed)


def saved(name: str, directory: Path, opening: str = "", **changes: Any) -> Path:
    """The model in a directory that `model=local` reads, with a tokenizer of the words of this package.

    Args:
        name: of the family.
        directory: where to.
        opening: special tokens that the tokenizer puts before each text, such as `[gMASK] <sop>`.
        changes: go into the config of the model.
    """
    from tokenizers import processors

    from tiny_ablation.models.sources.toy_tokenizer import toy_tokenizer

    tokenizer = toy_tokenizer()
    if names := opening.split():
        tokenizer.add_special_tokens({"additional_special_tokens": names})
        special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in names]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{opening} $A", special_tokens=special
        )
    tokenizer.save_pretrained(directory)
    tiny(name, **{"vocab_size": len(tokenizer), **changes}).save_pretrained(directory)
    return directory


def block(model: Any, name: str, layer: int) -> Any:
    """Block number `layer`."""
    return model.get_submodule(FAMILIES[name].blocks)[layer]


_STREAM = {"resid_pre": At("", "in"), "resid_post": At("", "out")}


def _before(changed: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": changed(kwargs["hidden_states"])}

    return hook


def hooked(
    model: Any, name: str, component: str, layer: int, change: Callable[[torch.Tensor], torch.Tensor], unit: int = 0
) -> Any:
    """Hook a unit by hand: `change` gets its values (..., width) as the residual stream gets them; returns the handle."""
    at = {**_STREAM, **FAMILIES[name].places}[component]
    width = at.width or D_MODEL
    part = slice(at.start(unit), at.start(unit) + width)

    def changed(x: torch.Tensor) -> torch.Tensor:
        new = x.clone()
        new[..., part] = change(x[..., part] * at.factor) / at.factor
        return new

    module = block(model, name, layer).get_submodule(at.module)
    if at.side == "in":
        return module.register_forward_pre_hook(_before(changed), with_kwargs=True)
    return module.register_forward_hook(
        lambda _m, _a, out: (changed(out[0]), *out[1:]) if isinstance(out, tuple) else changed(out)
    )
