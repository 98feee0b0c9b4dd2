"""`model=toy`: two layers of random weights in the layout of a real family, in milliseconds, with no file.

The heads matter (zeroing one moves a logit difference by tenths), so that what works on a real model can be tried here.
Everything is drawn from `model.seed`, nothing from torch's global state. A token's embedding depends on the seed and the token
alone: a new word in the vocabulary changes no logit of the other words.
"""

import hashlib
import math
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.seeds import derive_seed
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.sources.toy_tokenizer import END, toy_tokenizer, vocabulary

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

    from tiny_ablation.config.schema import ModelConfig

D_MODEL, N_LAYERS, N_HEADS, N_KV_HEADS, D_MLP, MAX_TOKENS = 32, 2, 4, 2, 64, 512
EMBEDDING_STD = 0.3  # small beside what a head writes, so that heads matter
VERSION = "v1"  # raise it when the same seed gives other weights
_SHAPES = ("llama", "gpt2", "neox")


def check(cfg: "ModelConfig") -> None:
    """Refuse a `model.shape` that does not exist, with the choices (ConfigError)."""
    if cfg.shape not in _SHAPES:
        raise ConfigError(f"model.shape={cfg.shape} is not a toy model; choose one of {', '.join(_SHAPES)}.")


def weights_id(cfg: "ModelConfig") -> str:
    """Shape, seed, and the vocabulary."""
    check(cfg)
    words = hashlib.sha256("\n".join(vocabulary()).encode()).hexdigest()
    return f"toy/{cfg.shape}/{cfg.seed}/{VERSION}:{words[:12]}"


def make_tokenizer(_cfg: "ModelConfig") -> "PreTrainedTokenizerFast":
    """The tokenizer that all toy models share."""
    return toy_tokenizer()


def context(_cfg: "ModelConfig") -> int:
    """How many tokens a prompt may have."""
    return MAX_TOKENS


def build(cfg: "ModelConfig") -> "tuple[Any, PreTrainedTokenizerFast]":
    """The model of `cfg.shape` and `cfg.seed`, and its tokenizer. Raises ConfigError if there is no such shape."""
    import torch
    from transformers import AutoModelForCausalLM

    check(cfg)
    config = _config(cfg.shape)
    # Building a model draws from torch's global generator: the weights are replaced, and its state put back.
    with torch.random.fork_rng(devices=[]):
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    _draw(model, cfg.seed)
    return model.eval(), toy_tokenizer()


def toy_llama(seed: int = 0) -> "tuple[Any, PreTrainedTokenizerFast]":
    """RMSNorm, rotary positions, gated MLP, two key/value heads for four query heads, tied embeddings."""
    return build(_toy("llama", seed))


def toy_gpt2(seed: int = 0) -> "tuple[Any, PreTrainedTokenizerFast]":
    """LayerNorm and biases, learned positions, joint queries, keys and values (`Conv1D`), tied embeddings."""
    return build(_toy("gpt2", seed))


def toy_neox(seed: int = 0) -> "tuple[Any, PreTrainedTokenizerFast]":
    """LayerNorm and biases, attention beside the MLP, queries, keys, values interleaved by head, untied."""
    return build(_toy("neox", seed))


def _toy(shape: str, seed: int) -> "ModelConfig":
    from tiny_ablation.config.schema import ModelConfig, ModelSource

    return ModelConfig(name="toy", source=ModelSource.toy, shape=shape, seed=seed)


def _draw(model: Any, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(derive_seed(seed, "toy", VERSION) % 2**63)
    embeddings = model.get_input_embeddings().weight
    unembeddings = model.get_output_embeddings().weight
    with torch.no_grad():
        embeddings.copy_(_token_vectors(seed, "embed"))
        if unembeddings is not embeddings:
            unembeddings.copy_(_token_vectors(seed, "unembed"))
        for name, weight in sorted(model.named_parameters()):
            if weight is embeddings or weight is unembeddings:
                continue
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:  # norm gains around one, biases small
                weight.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
            else:  # matrices that keep the size of what they are given
                weight.copy_(noise / math.sqrt(D_MODEL))


def _token_vectors(seed: int, label: str) -> "torch.Tensor":
    """(vocabulary, d_model), uniform, each row from the hash of its token."""
    import numpy as np
    import torch

    prefix = f"{derive_seed(seed, 'toy', VERSION, label)}/"
    digests = (hashlib.shake_256((prefix + token).encode()).digest(4 * D_MODEL) for token in vocabulary())
    uniform = np.frombuffer(b"".join(digests), dtype="<u4").reshape(-1, D_MODEL) / 2**32
    return torch.from_numpy((2 * uniform - 1) * math.sqrt(3) * EMBEDDING_STD).float()


def _config(shape: str) -> Any:
    from transformers import GPT2Config, GPTNeoXConfig, LlamaConfig

    end = vocabulary().index(END)
    tokens: dict[str, Any] = {"vocab_size": len(vocabulary()), "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    if shape == "gpt2":
        sizes: dict[str, Any] = {
            "n_embd": D_MODEL,
            "n_layer": N_LAYERS,
            "n_head": N_HEADS,
            "n_inner": D_MLP,
            "n_positions": MAX_TOKENS,
        }
        return GPT2Config(**sizes, **tokens, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    sizes = {
        "hidden_size": D_MODEL,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": N_HEADS,
        "intermediate_size": D_MLP,
        "max_position_embeddings": MAX_TOKENS,
    }
    if shape == "llama":
        return LlamaConfig(**sizes, **tokens, num_key_value_heads=N_KV_HEADS, tie_word_embeddings=True)
    return GPTNeoXConfig(**sizes, **tokens, tie_word_embeddings=False)
