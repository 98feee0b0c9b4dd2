"""From text to the token sequences that a model sees: training contexts, held-out contexts, and the model's own samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tiny_ablation.config.schema import SaeConfig
from tiny_ablation.config.seeds import derive_seed, generator
from tiny_ablation.errors import ConfigError, DataError
from tiny_ablation.sae.corpus import documents

if TYPE_CHECKING:
    import numpy as np

    from tiny_ablation.models.network import Network

_ROWS = 64  # samples that are drawn together


@dataclass(frozen=True)
class Contexts:
    """Token sequences of equal length."""

    train: "np.ndarray"  # (n, context) int32
    held_out: "np.ndarray"  # (m, context) int32, of other pieces of text


def contexts(network: "Network", cfg: SaeConfig, seed: int) -> Contexts:
    """Shuffle the text with the seed, and cut it up: first what is held out, then what is trained on.

    Raises:
        ConfigError: contexts are longer than the model reads.
        DataError: the text is too short.
    """
    import numpy as np

    most = network.model.context
    if most is not None and cfg.context > most:
        raise ConfigError(f"sae.context={cfg.context}: {network.model.name} was made for {most} tokens")

    pieces = list(dict.fromkeys(documents(cfg.corpus)))  # text that stands twice could be trained on and held out
    order = generator(seed, "sae", "text").permutation(len(pieces))
    start = network.model.opening  # what every sequence begins with
    width = cfg.context - len(start)
    wanted = (cfg.tokens + cfg.held_out) // cfg.context + 2
    flat: list[int] = []
    for ids in _tokens(network, [pieces[i] for i in order]):
        flat += ids
        if len(flat) >= wanted * width:
            break
    ends = range(0, len(flat) + 1, width)  # what is left of the last context is dropped
    parts = [np.array([*start, *flat[a:b]], dtype=np.int32) for a, b in pairwise(ends)]
    if len(parts) < 2:
        raise DataError(
            f"sae.corpus: the text has {len(parts)} contexts of {cfg.context} tokens, and at least 2 are needed; "
            "give more text, or a smaller sae.context"
        )
    n_held = min(max(1, cfg.held_out // cfg.context), len(parts) // 2)
    n_train = max(1, cfg.tokens // cfg.context)
    return Contexts(np.array(parts[n_held : n_held + n_train]), np.array(parts[:n_held]))


def _tokens(network: "Network", pieces: Sequence[str]) -> Iterator[list[int]]:
    """The tokens of each piece and an empty line, not of the end of a text: in a context that token is an attention sink."""
    tokenizer: Any = network.model.tokenizer
    for first in range(0, len(pieces), 256):
        texts = [f"{piece}\n\n" for piece in pieces[first : first + 256]]
        yield from tokenizer(texts, add_special_tokens=False)["input_ids"]


def own_samples(network: "Network", first: "np.ndarray", n: int, length: int, seed: int) -> "np.ndarray":
    """(n, length) int32: samples of the model itself at temperature 1, each continuing one token drawn from `first`, (m,)."""
    import numpy as np
    import torch

    draws = torch.Generator().manual_seed(derive_seed(seed, "sae", "samples") % 2**63)
    start, rows = network.model.opening, []
    while sum(map(len, rows)) < n:
        chosen = torch.randint(len(first), (min(_ROWS, n - sum(map(len, rows))),), generator=draws)
        ids = torch.tensor([[*start, int(first[i])] for i in chosen])
        past: Any = None
        with torch.inference_mode():
            while ids.shape[1] < length:
                new = ids if past is None else ids[:, -1:]
                out = network.forward(input_ids=new.to(network.device), past_key_values=past, use_cache=True)
                past = out.past_key_values
                probabilities = out.logits[:, -1].float().softmax(-1).cpu()
                ids = torch.cat([ids, torch.multinomial(probabilities, 1, generator=draws)], 1)
        rows.append(ids.int().numpy())
    return np.concatenate(rows) if rows else np.empty((0, length), dtype=np.int32)
