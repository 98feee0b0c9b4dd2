"""`model=tracr_*`: programs compiled to weights, so that their circuit is known from their source.

Four programs of the RASP language (Weiss et al. 2021), compiled by Tracr (Lindner et al. 2023, arXiv:2301.05062): they reverse
a list, sort one, count how often its last word occurs in it, and decide whether brackets of two kinds are balanced (8 layers of
4 heads). Each attention operation of a program is one head. The compiler leaves the other heads at zero; they are filled with
decoys here, as in `planted`: they read everything and write vectors of ordinary size, but only into further dimensions, which
nothing on the way to the logits reads.

`programs/` has the weights, the answers of Tracr's own model to some inputs, and which heads are live; `tests/tracr/export.py`
made and checked them. Loading needs neither Tracr nor JAX.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.seeds import derive_seed
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.sources.files import checksum
from tiny_ablation.models.sources.induction import NORM_EPS
from tiny_ablation.models.sources.truth import Head, Truth
from tiny_ablation.models.sources.word_tokenizers import START, word_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    from tiny_ablation.config.schema import ModelConfig

N_HEADS, D_UNREAD = 4, 16  # at least so many dimensions for the decoys
VERSION = "v1"  # raise it when the same program and seed give other weights

_PROGRAMS = Path(__file__).parent / "programs"


def names() -> list[str]:
    """The programs that ship."""
    return sorted(path.stem for path in _PROGRAMS.glob("*.json"))


def check(cfg: "ModelConfig") -> None:
    """Refuse a `model.shape` that does not exist, with the choices (ConfigError)."""
    if cfg.shape not in names():
        raise ConfigError(f"model.shape={cfg.shape} is no compiled program; choose one of {', '.join(names())}.")


def weights_id(cfg: "ModelConfig") -> str:
    """Program, seed of the decoys, and the hash of the file."""
    check(cfg)
    return f"tracr/{cfg.shape}/{cfg.seed}/{VERSION}:{checksum(_PROGRAMS / f'{cfg.shape}.safetensors')[:12]}"


def truth(cfg: "ModelConfig") -> Truth:
    """The heads of the program, and the decoys."""
    check(cfg)
    content = _content(cfg.shape)
    live, constant = ([(layer, head) for layer, head in content[key]] for key in ("live", "constant"))
    heads = [(layer, head) for layer in range(content["shapes"]["query"][0]) for head in range(N_HEADS)]
    dead = tuple(head for head in heads if head not in live)
    return Truth(needed=tuple(live), dead=dead, constant=tuple(constant))


def cases(shape: str) -> dict[str, tuple[str, ...]]:
    """For some hundred inputs, words separated by spaces, what the program answers at each word."""
    return {prompt: tuple(answers.split()) for prompt, answers in _content(shape)["cases"].items()}


def make_tokenizer(cfg: "ModelConfig") -> "PreTrainedTokenizerFast":
    """A new tokenizer of the program's words."""
    check(cfg)
    return word_tokenizer(_vocabulary(cfg.shape))


def context(cfg: "ModelConfig") -> int:
    """How many tokens a prompt may have."""
    check(cfg)
    return _content(cfg.shape)["shapes"]["position"][0]


def build(cfg: "ModelConfig") -> "tuple[Any, PreTrainedTokenizerFast]":
    """The model of the program `cfg.shape` among decoys drawn from `cfg.seed`, and its tokenizer.

    Raises:
        ConfigError: there is no such program.
    """
    import torch

    check(cfg)
    weights = _weights(cfg.shape)
    with torch.random.fork_rng(devices=[]):
        model = _blank(weights, _vocabulary(cfg.shape))
    generator = torch.Generator().manual_seed(derive_seed(cfg.seed, "tracr", VERSION, cfg.shape) % 2**63)
    vocabulary, d_program = _vocabulary(cfg.shape), weights["embed"].shape[1]
    with torch.no_grad():
        # The words that are only answers have no embedding, the others no logit.
        model.transformer.wte.weight[: len(weights["embed"]), :d_program] = weights["embed"]
        model.transformer.wpe.weight[:, :d_program] = weights["position"]
        rows = [vocabulary.index(word) for word in _content(cfg.shape)["outputs"]]
        model.lm_head.weight[rows, :d_program] = weights["unembed"].T
        for layer, block in enumerate(model.transformer.h):
            # An MLP of the program neither reads nor writes what the decoys write.
            block.mlp.c_fc.weight[:d_program] = weights["mlp_in"][layer]
            block.mlp.c_fc.bias[:] = weights["mlp_in_bias"][layer]
            block.mlp.c_proj.weight[:, :d_program] = weights["mlp_out"][layer]
            block.mlp.c_proj.bias[:d_program] = weights["mlp_out_bias"][layer]
            own = {name: weights[name][layer] for name in ("query", "key", "value", "output")}
            _fill_attention(block.attn, layer, own, truth(cfg).needed, generator)
    return model.eval(), make_tokenizer(cfg)


def _blank(weights: "dict[str, Tensor]", vocabulary: list[str]) -> Any:
    """The model with all weights at zero and norms that do nothing; wide enough for the program and the decoys."""
    from transformers import GPT2Config

    from tiny_ablation.models.bidirectional import BidirectionalGPT2

    d_program, bos = weights["embed"].shape[1], vocabulary.index(START)
    d_head = max(weights["query"].shape[-1], math.ceil((d_program + D_UNREAD) / N_HEADS))
    config = GPT2Config(
        n_embd=N_HEADS * d_head,
        n_layer=len(weights["query"]),
        n_head=N_HEADS,
        n_inner=weights["mlp_in"].shape[-1],
        n_positions=len(weights["position"]),
        vocab_size=len(vocabulary),
        activation_function="relu",
        layer_norm_epsilon=NORM_EPS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=False,
        bos_token_id=bos,
        eos_token_id=bos,
        pad_token_id=bos,
        architectures=["GPT2LMHeadModel"],
    )
    config._attn_implementation = "sdpa"
    model = BidirectionalGPT2(config)
    for name, weight in model.named_parameters():
        if "ln_" not in name:
            weight.requires_grad_(False).zero_()
    return model


def _fill_attention(
    attn: Any, layer: int, own: "dict[str, Tensor]", live: tuple[Head, ...], generator: "torch.Generator"
) -> None:
    """The program's heads in their places, decoys in the others."""
    import torch

    d_model, d_head = attn.embed_dim, attn.head_dim
    d_program, width = own["query"].shape[1:]
    reads = attn.c_attn.weight.view(d_model, 3, N_HEADS, d_head)  # query, key, value
    writes = attn.c_proj.weight.view(N_HEADS, d_head, d_model)
    for head in range(N_HEADS):
        if (layer, head) in live:
            # Attention divides by the root of its own width instead of the program's.
            reads[:d_program, 0, head, :width] = own["query"][head] * math.sqrt(d_head / width)
            reads[:d_program, 1, head, :width] = own["key"][head]
            reads[:d_program, 2, head, :width] = own["value"][head]
            writes[head, :width, :d_program] = own["output"][head]
        else:
            reads[:, :, head] = torch.randn(d_model, 3, d_head, generator=generator) / math.sqrt(d_program)
            unread = d_model - d_program
            writes[head, :, d_program:] = torch.randn(d_head, unread, generator=generator) / math.sqrt(d_head)


def _vocabulary(shape: str) -> list[str]:
    """The program's input words, in the order of its embeddings, then the other answers."""
    content = _content(shape)
    return [*content["words"], *(word for word in content["outputs"] if word not in content["words"])]


@cache
def _content(shape: str) -> dict[str, Any]:
    return json.loads((_PROGRAMS / f"{shape}.json").read_text(encoding="utf-8"))


def _weights(shape: str) -> "dict[str, Tensor]":
    """Dense float32; the file holds the indices and values that are not 0."""
    import torch
    from safetensors.torch import load_file

    kept, out = load_file(_PROGRAMS / f"{shape}.safetensors"), {}
    for name, size in _content(shape)["shapes"].items():
        out[name] = torch.zeros(math.prod(size))
        if f"{name}.index" in kept:
            out[name][kept[f"{name}.index"].long()] = kept[f"{name}.value"]
        out[name] = out[name].view(size)
    return out
