"""Whether prompts have the form that their model was trained on: what is told where they seem not to.

Costs two passes over sixteen short prompts at most.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tiny_ablation.config.schema import RootConfig
from tiny_ablation.data.corpus import FILE
from tiny_ablation.data.tokens import TokenizedExample
from tiny_ablation.run.baseline import baseline

if TYPE_CHECKING:
    from tiny_ablation.models.network import Network

TRIED = 16  # prompts that are read with the other opening as well
BETTER = 0.25  # by which share more of them the model must get right with it


def form_warnings(root: RootConfig, network: "Network", tokens: Sequence[TokenizedExample]) -> list[str]:
    """What may be wrong with the form of the prompts, in words; mostly nothing."""
    found = [_bare(root, network, tokens), _doubled(root, network, tokens), _opening(root, network, tokens)]
    return [text for text in found if text]


def _bare(root: RootConfig, network: "Network", tokens: Sequence[TokenizedExample]) -> str:
    """Prompts of the user's own that an instruct model gets without its template."""
    tokenizer = network.model.tokenizer
    special, front = set(tokenizer.all_special_ids), len(network.model.opening)
    bare = [t for t in tokens if not special & {*t.clean_ids[front:]}]
    if root.dataset.chat or root.dataset.family != FILE or not bare:
        return ""
    if not getattr(tokenizer, "chat_template", None):
        return ""
    return (
        f"{network.model.name} is an instruct model (its tokenizer has a chat template), and {len(bare)} of {len(tokens)} "
        "prompts are bare text, which it continues as a base model would; dataset.chat=true renders them as it was trained on"
    )


def _doubled(root: RootConfig, network: "Network", tokens: Sequence[TokenizedExample]) -> str:
    """Prompts whose text is written with the tokens that every prompt begins with, outside of chat."""
    opening = network.model.opening
    head = "".join(network.model.tokenizer.convert_ids_to_tokens(list(opening)))
    written = [t for t in tokens if opening and t.example.clean.startswith(head)]
    if root.dataset.chat or not written:
        return ""
    return (
        f"{len(written)} of {len(tokens)} prompts are written with the special tokens that every prompt begins with, which are "
        "not put in front of them once more"
    )


def _opening(root: RootConfig, network: "Network", tokens: Sequence[TokenizedExample]) -> str:
    """An opening with which the model gets many fewer prompts right than with the other choice."""
    bos, opening = network.model.tokenizer.bos_token_id, network.model.opening
    other = () if opening else (bos,)
    if root.dataset.chat or bos is None:
        return ""
    tried = tokens[:TRIED]
    swapped = [replace(t, clean_ids=(*other, *t.clean_ids[len(opening) :])) for t in tried]
    if any(not t.clean_ids for t in swapped):
        return ""
    own, others = (baseline(network, rows, root.metrics.span, root.device.batch_tokens).correct for rows in (tried, swapped))
    if others.mean() - own.mean() < BETTER:
        return ""
    return (
        f"the model gets {others.sum()} of {len(tried)} prompts right {'with' if other else 'without'} a beginning-of-sequence "
        f"token, and {own.sum()} as they are; model.prepend_bos={'true' if other else 'false'} chooses the other"
    )
