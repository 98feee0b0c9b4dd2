"""Models of random weights in the shape of real ones, and prompts of random tokens: all that PyTorch and transformers give."""

import random
from types import SimpleNamespace
from typing import Any, cast

import torch
import transformers

from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.network import Network, build_network

# layers, heads, key/value heads, width, width of the MLP, vocabulary
SHAPES = {"135M": (30, 9, 3, 576, 1536, 49152), "6.7B": (32, 32, 32, 4096, 11008, 32000), "tiny": (4, 4, 2, 64, 128, 512)}
# Prompts as in the package's corpora: how many tokens they have, how many of these they share with others, and with how many.
CORPORA = {"facts": ((9, 13), 2, 8), "ioi": ((17, 17), 4, 4)}


def build(shape: str, dtype: torch.dtype, device: str) -> Network:
    """A Llama of random weights, the same for each shape, precision and device."""
    layers, heads, kv, width, mlp, vocabulary = SHAPES[shape]
    config = transformers.LlamaConfig(
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        hidden_size=width,
        intermediate_size=mlp,
        vocab_size=vocabulary,
        initializer_range=width**-0.5,
    )
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    with torch.device(device):
        hf = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    loaded = SimpleNamespace(hf=hf, name=shape, context=config.max_position_embeddings, origin={})
    return build_network(cast(Any, loaded))


def prompts(corpus: str, n: int, vocabulary: int) -> tuple[list[Prompt], list[Prompt]]:
    """Clean prompts, and corrupt ones that differ from them in one token behind the shared prefix."""
    lengths, shared, stems = CORPORA[corpus]
    rng = random.Random(corpus)
    token = lambda: rng.randrange(vocabulary)  # noqa: E731
    first = token()
    openings = [(first, *(token() for _ in range(shared - 1))) for _ in range(stems)]
    clean, corrupt = [], []
    for i in range(n):
        opening = openings[i % stems]
        rest = [token() for _ in range(rng.randint(*lengths) - shared)]
        answers = (token(),), (token(),)
        clean.append(Prompt((*opening, *rest), *answers, {}, f"{corpus}-{i}"))
        corrupt.append(Prompt((*opening, token(), *rest[1:]), *answers, {}, f"{corpus}-{i}"))
    return clean, corrupt
