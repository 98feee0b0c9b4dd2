"""What directions do to unrelated text: how far the next token's distribution moves in Python's documentation."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from tiny_ablation.engine.edits import Intervention
from tiny_ablation.engine.executor import Executor
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.network import Network
from tiny_ablation.sae.corpus import documents

TOKENS = 24  # of a passage


def divergence(network: Network, plan: Sequence[Intervention], n: int, batch_tokens: int) -> list[float]:
    """KL(clean || intervened) in nats after the last token of a passage, mean over `n` passages, for each intervention.

    What is done at the subject is done at all tokens here.
    """
    anywhere = [
        Intervention(tuple(replace(e, positions="all") if e.positions == "subject" else e for e in each.edits)) for each in plan
    ]
    results = Executor(network, list(passages(network, n)), anywhere, [metric("kl_div")], batch_tokens=batch_tokens)
    return torch.cat([result.values["kl_div"] for result in results], 1).mean(1).tolist()


def passages(network: Network, n: int) -> Iterator[Prompt]:
    """The beginnings of the first so many pieces of text that are long enough."""
    opening, tokenizer = tuple(network.model.opening), network.model.tokenizer
    size = min(TOKENS, network.model.context or TOKENS)
    for number, text in enumerate(documents(None)):
        if n == 0:
            return
        ids = (*opening, *tokenizer(text, add_special_tokens=False)["input_ids"])[:size]
        if len(ids) == size:
            n -= 1
            yield Prompt(ids, (0,), (), {}, f"text {number}")
