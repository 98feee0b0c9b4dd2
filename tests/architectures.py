"""Where the parts of each architecture are, written down by hand from the modeling code of transformers.

For the tiny models of `tiny_ablation.models.random_models`: heads are 16 wide where nothing else is said. Several places stand
for blocks in turn; a place whose module a block does not have is none of that block's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from tests.families import At, heads

D, LATENT = 16, 24  # a head; the query of a head whose keys come from a latent vector


class Places(NamedTuple):
    """Where the blocks are, in a block the places of each component, and the blocks that are not run on text alone."""

    blocks: str
    parts: dict[str, tuple[At, ...]]
    silent: tuple[int, ...] = ()

    def at(self, model: Any, component: str, layer: int) -> "tuple[Any, At] | None":
        """The module and the place in it; None where the block has none."""
        blocks = [b for i, b in enumerate(model.get_submodule(self.blocks)) if i not in self.silent]
        block = blocks[layer]
        if component in ("resid_pre", "resid_post"):
            return block, At("", "in" if component == "resid_pre" else "out")
        if component not in self.parts:
            return None
        options = self.parts[component]
        at = options[layer % len(options)]
        try:
            return block.get_submodule(at.module), at
        except AttributeError:
            return None


def hook(module: Any, at: At, unit: int, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Let `change` replace a unit's values at each forward pass; returns the handle."""
    part = slice(None) if at.width is None else slice(at.start(unit), at.start(unit) + at.width)

    def changed(x: torch.Tensor) -> torch.Tensor:
        new = x.clone()
        new[..., part] = change(x[..., part])
        return new

    def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": changed(kwargs["hidden_states"])}

    if at.side == "in":
        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: Any, _args: Any, out: Any) -> Any:
        if not isinstance(out, (tuple, list)):
            return changed(out)
        new = [changed(out[0]), *out[1:]]
        return new if isinstance(out, list) else tuple(new)

    return module.register_forward_hook(after)


def _parts(o: str, attn: str, mlp: str, **qkv: At) -> dict[str, tuple[At, ...]]:
    out = {"attn_out": At(attn, "out"), "mlp_out": At(mlp, "out")}
    return {name: (at,) for name, at in {"z": heads(o, "in"), **qkv, **out}.items()}


def _split(stem: str, names: str = "q_proj k_proj v_proj") -> dict[str, At]:
    return {part: heads(f"{stem}.{name}", "out") for part, name in zip("qkv", names.split(), strict=True)}


def _fused(module: str, firsts: tuple[int, int, int], step: int = D) -> dict[str, At]:
    """Queries, keys and values of one matrix: where those of the first head begin, and how far the next head is."""
    return {part: heads(module, "out", first=first, step=step) for part, first in zip("qkv", firsts, strict=True)}


def _by_head(module: str) -> dict[str, At]:
    return _fused(module, (0, D, 2 * D), 3 * D)


def _latent(queries: str) -> dict[str, tuple[At, ...]]:
    """DeepSeek's attention: a query has a rotary part, a value stands behind the key of its head."""
    query, value = (heads(queries, "out", LATENT), heads("self_attn.kv_b_proj", "out", first=D, step=2 * D))
    return _parts("self_attn.o_proj", "self_attn", "mlp", q=query, v=value)


def _renamed(parts: dict[str, tuple[At, ...]], **modules: str) -> dict[str, tuple[At, ...]]:
    return parts | {name: (At(module, "out"),) for name, module in modules.items()}


_LLAMA = _parts("self_attn.o_proj", "self_attn", "mlp", **_split("self_attn"))
_NORMED = _renamed(_LLAMA, attn_out="post_attention_layernorm", mlp_out="post_feedforward_layernorm")
_GLM4 = _renamed(_LLAMA, attn_out="post_self_attn_layernorm", mlp_out="post_mlp_layernorm")
_FEED = _renamed(_LLAMA, mlp_out="feed_forward")
_OUT_PROJ = _parts("self_attn.out_proj", "self_attn", "fc2", **_split("self_attn"))
_LFM = _renamed(_OUT_PROJ, mlp_out="feed_forward")
# A query and, behind it, its gate.
_GATED = {**_LLAMA, "q": (heads("self_attn.q_proj", "out", step=2 * D),)}
_BERT = _parts(
    "attention.output.dense", "attention.output.dense", "output.dense", **_split("attention.self", "query key value")
)
_GPT2 = _parts("attn.c_proj", "attn", "mlp", **_fused("attn.c_attn", (0, 4 * D, 8 * D)))
_WIDE = [heads(f"self_attn.{m}_proj", side, 2 * D) for m, side in (("o", "in"), ("q", "out"), ("k", "out"), ("v", "out"))]
# Every second block has heads of twice the width.
_GEMMA4 = {**_NORMED, **{c: (_LLAMA[c][0], wide) for c, wide in zip("zqkv", _WIDE, strict=True)}}
_PERSIMMON = _parts("self_attn.dense", "self_attn", "mlp", **_by_head("self_attn.query_key_value"))
_GPTJ = _parts("attn.out_proj", "attn", "mlp", **_split("attn"))

_GROUPS: tuple[tuple[str, dict[str, tuple[At, ...]], str], ...] = (
    (
        "model.layers",
        _LLAMA,
        "apertus arcee aria_text bitnet cohere cohere2 cohere2_moe cohere_compass_text cwm dots1 emu3 ernie4_5 "
        "ernie4_5_moe exaone_moe flint gemma glm glm4_moe gpt_oss granite granite_swa helium hunyuan_v1_dense "
        "hunyuan_v1_moe hy_v3 internlm3 iquestcoder jais2 laguna llama mellum mimo_v2_flash minimax minimax_m2 "
        "minimax_m3_vl_text ministral ministral3 mistral mixtral nanochat nemotron olmo olmoe phimoe qwen2 qwen2_moe "
        "qwen3 qwen3_moe seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma",
    ),
    ("model.layers", {c: at for c, at in _LLAMA.items() if c != "v"}, "doge"),
    ("model.layers", {c: _LLAMA[c] for c in ("z", "attn_out", "mlp_out")}, "axk2 zaya"),
    ("model.language_model.layers", _LLAMA, "got_ocr2 moss_transcribe_diarize"),
    ("model.language_model.layers", _NORMED, "gemma3"),
    ("model.language_model.layers", _GEMMA4, "gemma4 gemma4_unified"),
    ("model.layers", _GEMMA4, "gemma4_text gemma4_unified_text"),
    ("model.layers", _NORMED, "beam exaone4 flex_olmo gemma2 gemma3_text olmo2 olmo3"),
    ("model.layers", _GLM4, "glm4 kolibri1"),
    ("model.layers", _renamed(_LLAMA, attn_out="post_attention_layernorm", mlp_out="post_mlp_layernorm"), "afmoe"),
    ("model.layers", _renamed(_LLAMA, attn_out="post_norm1", mlp_out="post_norm2"), "hyperclovax"),
    ("model.layers", _renamed(_LLAMA, attn_out="attn_sconv", mlp_out="mlp_sconv"), "inkling_text"),
    ("model.layers", _FEED, "bamba falcon_h1 jamba llama4 llama4_text"),
    ("model.layers", _renamed(_LLAMA, mlp_out="block_sparse_moe"), "granitemoe granitemoe_swa"),
    ("model.layers", _GATED, "qwen3_5_moe_text qwen3_5_text qwen3_next"),
    ("model.layers", _GATED, "qwen3_5 qwen3_5_moe"),
    (
        "model.layers",
        _latent("self_attn.q_b_proj"),
        "axk1 deepseek_v2 deepseek_v3 deepseek_v32 dots3_note dots3_note_text glm4_moe_lite glm_moe_dsa minicpm3 youtu",
    ),
    ("model.layers", _latent("self_attn.q_proj"), "bailing_hybrid kimi_linear"),
    (
        "model.layers",
        {**_NORMED, "mlp_out": (*[At("mlp", "out")] * 3, At("post_feedforward_layernorm", "out"))},
        "olmo_hybrid",
    ),  # three blocks without attention, then one with it
    ("model.layers", _LFM, "lfm2 lfm2_moe"),
    ("model.layers", _renamed(_LLAMA, attn_out="post_operator_norm", mlp_out="post_ffn_norm"), "lfm3"),
    ("model.layers", _OUT_PROJ, "xglm"),
    ("biogpt.layers", _OUT_PROJ, "biogpt"),
    (
        "model.decoder.layers",
        _OUT_PROJ,
        "bart bigbird_pegasus blenderbot blenderbot-small marian mbart mvp opt pegasus plbart trocr whisper",
    ),
    ("bert.encoder.layer", _BERT, "bert bert-generation big_bird megatron-bert"),
    ("roberta.encoder.layer", _BERT, "camembert roberta xlm-roberta xlm-roberta-xl"),
    *(
        (f"{stem}.encoder.layer", _BERT, name)
        for stem, name in (
            ("data2vec_text", "data2vec-text"),
            ("electra", "electra"),
            ("ernie", "ernie"),
            ("git", "git"),
            ("rembert", "rembert"),
            ("roberta_prelayernorm", "roberta-prelayernorm"),
            ("roc_bert", "roc_bert"),
            ("roformer", "roformer"),
        )
    ),
    ("transformer.h", _GPT2, "gpt-sw3 gpt2 openai-gpt"),
    ("transformer.h", {**_GPT2, "v": (heads("attn.c_attn", "out", first=5 * D),)}, "gpt_bigcode"),
    ("transformer.h", _GPTJ, "gptj"),
    ("transformer.h", {**_GPTJ, **{c: (at,) for c, at in _fused("attn.qkv_proj", (0, 2 * D, D), 3 * D).items()}}, "codegen"),
    ("transformer.h", _parts("attn.attention.out_proj", "attn", "mlp", **_split("attn.attention")), "gpt_neo"),
    (
        "transformer.h",
        _parts(
            "self_attention.dense", "self_attention.dense", "mlp.dense_4h_to_h", **_by_head("self_attention.query_key_value")
        ),
        "bloom",
    ),
    (
        "transformer.h",
        _parts("self_attention.dense", "self_attention", "mlp", **_fused("self_attention.query_key_value", (0, 4 * D, 5 * D))),
        "falcon",
    ),
    (
        "transformer.h",
        _parts("multi_head_attention.dense", "multi_head_attention", "ffn", **_split("multi_head_attention", "Wq Wk Wv")),
        "ctrl",
    ),
    ("transformer.blocks", _parts("attn.out_proj", "attn", "ffn.down_proj", **_fused("attn.Wqkv", (0, 4 * D, 8 * D))), "mpt"),
    (
        "transformer.blocks",
        _parts(
            "norm_attn_norm.attn.out_proj",
            "norm_attn_norm.attn",
            "ffn",
            **_fused("norm_attn_norm.attn.Wqkv", (0, 4 * D, 5 * D)),
        ),
        "dbrx",
    ),
    *(
        (f"{stem}.layers", _parts("attention.dense", "attention", "mlp", **_by_head("attention.query_key_value")), stem)
        for stem in ("gpt_neox", "gpt_neox_japanese")
    ),
    ("model.language_model.layers", _PERSIMMON, "fuyu"),
    ("model.layers", _PERSIMMON, "persimmon"),
    ("model.layers", _parts("self_attn.dense", "self_attn", "mlp", **_split("self_attn")), "phi"),
    ("model.layers", _parts("self_attn.o_proj", "self_attn", "mlp", **_fused("self_attn.qkv_proj", (0, 4 * D, 8 * D))), "phi3"),
    (
        "model.layers",
        _parts("self_attn.o_proj", "self_attn", "mlp", **_fused("self_attn.qkv_proj", (0, 4 * D, 6 * D))),
        "phi4_multimodal",
    ),
    ("model.layers", _parts("attn.Wo", "attn", "mlp", **_split("attn")), "modernbert-decoder"),
    (
        "model.layers",
        _parts(
            "self_attn.o_proj.linear", "self_attn", "mlp", **_split("self_attn", "q_proj.linear k_proj.linear v_proj.linear")
        ),
        "moshi",
    ),
    ("model.layers", _parts("mixer.o_proj", "mixer", "mixer", **_split("mixer")), "nemotron_h"),
    (
        "model.layers",
        _parts("temporal_block.o_proj", "temporal_block", "mlp_block", **_split("temporal_block")),
        "recurrent_gemma",
    ),
)
ARCHITECTURES = {
    **{name: Places(blocks, parts) for blocks, parts, names in _GROUPS for name in names.split()},
    "mllama": Places("model.layers", _LLAMA, silent=(1,)),
}
