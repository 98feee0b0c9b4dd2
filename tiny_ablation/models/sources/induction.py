"""Induction models: two layers of attention alone that learn to continue a repeated list, in seconds.

A head of layer 0 attends to the previous token; a head of layer 1 then finds the token that followed the last time and copies
it. With one head per layer both are needed. With two heads per layer, layer 1 learns the second step twice: either head is
enough and removing both is fatal, which no ablation of single heads can show.

The network is a Llama whose MLPs are zero and whose norms do nothing, so that it is the plain sum that the
literature reasons about, and every tool that knows Llamas runs it. Positions reach queries and keys only
(rotary). Lists have periods of 4 to 12 tokens, drawn anew: with one fixed period a model learns to look that
far back instead.

Reference: Olsson et al. 2022, "In-context Learning and Induction Heads" (arXiv:2209.11895), two-layer models.
"""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.seeds import derive_seed
from tiny_ablation.models.sources.truth import Head
from tiny_ablation.models.sources.word_tokenizers import BOS, LETTERS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

N_LAYERS, D_MODEL, D_HEAD = 2, 64, 32
PERIODS = (4, 12)
N_TOKENS = 32
STEPS, N_LISTS, LEARNING_RATE = 200, 64, 3e-3
VERSION = "v1"  # raise it when the same seed gives other weights

# RMSNorm divides by sqrt(mean(x^2) + eps). Beside an eps of 2^80 the mean is lost in rounding, in float64 too,
# so it divides by exactly 2^40, which the gain undoes exactly.
NORM_EPS, NORM_GAIN = 2.0**80, 2.0**40


@dataclass(frozen=True)
class Lists:
    """Token sequences in which a list of distinct letters repeats."""

    ids: "Tensor"  # (n, N_TOKENS) int64, beginning with BOS
    repeated: "Tensor"  # (n, N_TOKENS - 1) bool, whether the next token can be known: the list has begun again


def blank(n_heads: int, d_model: int = D_MODEL) -> Any:
    """A Llama with `n_heads` heads a layer, MLPs of zeros and norms that do nothing; the rest is to be drawn."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        hidden_size=d_model,
        num_hidden_layers=N_LAYERS,
        intermediate_size=4,
        vocab_size=1 + len(LETTERS),
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        head_dim=D_HEAD,
        rms_norm_eps=NORM_EPS,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=BOS,
        pad_token_id=BOS,
    )
    # Building a model draws from torch's global generator: its state is put back.
    with torch.random.fork_rng(devices=[]):
        model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    for name, weight in model.named_parameters():
        if "norm" in name or "mlp" in name:
            weight.requires_grad_(False).fill_(NORM_GAIN if "norm" in name else 0.0)
    return model


def scatter(model: Any, generator: "torch.Generator") -> None:
    """Draw what is not fixed: embeddings of size one, matrices that keep the size of what they are given."""
    import torch

    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.requires_grad:
                fan_in = 1 if "embed" in name else weight.shape[1]
                weight.copy_(torch.randn(weight.shape, generator=generator) / math.sqrt(fan_in))


def train(n_heads: int, seed: int) -> Any:
    """A model that has learnt to continue repeated lists; 3 to 6 s on one core.

    All randomness is drawn from `seed` and none of it from torch's global state. It trains on one thread, so
    that the number of threads cannot change the weights.
    """
    import torch
    from torch.nn.functional import cross_entropy

    generator = stream(seed, "train", n_heads)
    model = blank(n_heads)
    scatter(model, generator)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=LEARNING_RATE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.enable_grad():
            for _ in range(STEPS):
                lists = draw_lists(generator, N_LISTS)
                logits = model(lists.ids[:, :-1], use_cache=False).logits
                loss = cross_entropy(logits[lists.repeated], lists.ids[:, 1:][lists.repeated])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    finally:
        torch.set_num_threads(threads)
    return model.eval().requires_grad_(False)


def accuracy(model: Any, lists: Lists, zeroed: Sequence[Head] = ()) -> float:
    """How often the top token is the one that followed before, with the z of some heads set to zero."""
    import torch

    def zero(head: int, _module: Any, args: "tuple[Tensor]") -> "tuple[Tensor]":
        z = args[0].clone()  # (n, seq, n_heads * D_HEAD)
        z[..., head * D_HEAD : (head + 1) * D_HEAD] = 0
        return (z,)

    with contextlib.ExitStack() as stack, torch.no_grad():
        for layer, head in zeroed:
            output = model.model.layers[layer].self_attn.o_proj
            stack.callback(output.register_forward_pre_hook(partial(zero, head)).remove)
        top = model(lists.ids[:, :-1], use_cache=False).logits.argmax(-1)
    return (top == lists.ids[:, 1:])[lists.repeated].double().mean().item()


def draw_lists(generator: "torch.Generator", n: int) -> Lists:
    """`n` sequences, each of a random period and of random distinct letters."""
    import torch

    low, high = PERIODS
    period = torch.randint(low, high + 1, (n, 1), generator=generator)
    letters = 1 + torch.rand(n, len(LETTERS), generator=generator).argsort(dim=1)
    place = torch.arange(N_TOKENS - 1)
    ids = torch.cat([torch.full((n, 1), BOS), letters.gather(1, place % period)], dim=1)
    return Lists(ids, place > period)


def stream(seed: int, *labels: object) -> "torch.Generator":
    """A torch generator for one purpose."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, "induction", VERSION, *labels) % 2**63)
