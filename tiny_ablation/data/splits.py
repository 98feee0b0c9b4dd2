"""Train, dev and test: who is where, and the sidecar that says when the corpus was changed afterwards.

By prompt, a row's place follows from the hash of its prompt alone, so adding rows moves none of the others. By group, rows
that share a group or a template stay together; the sizes are then as near to 60/20/20 as whole groups allow.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tiny_ablation.data.examples import Example
from tiny_ablation.data.text import prompt_key
from tiny_ablation.errors import DataError

SHARES = {"train": 0.6, "dev": 0.2, "test": 0.2}


class Sidecar(NamedTuple):
    """What stands beside a corpus that was split."""

    by: str  # `prompt` or `group`
    content_hash: str  # of the corpus, splits included
    split_hash: str  # of which id is in which split
    counts: dict[str, int]  # rows in each split


def sidecar_path(corpus: Path) -> Path:
    """Where the sidecar of a corpus stands."""
    return corpus.with_name(f"{corpus.name}.split.json")


def by_prompt(prompt: str) -> str:
    """The split of a prompt: 60 % train, 20 % dev, 20 % test, by its hash; equal prompts always fall together."""
    place, bound = _place(prompt_key(prompt)), 0.0
    for name, share in SHARES.items():
        bound += share
        if place < bound:
            return name
    return "test"


def by_group(examples: Sequence[Example]) -> list[str]:
    """The split of each example, so that no group and no template is in two splits.

    The largest clusters are placed first, each into the split that is furthest below its share.

    Raises:
        DataError: there are fewer than three clusters.
    """
    of = _clusters(examples)
    sizes = Counter(of)
    if len(sizes) < len(SHARES):
        raise DataError(
            f"--by group needs at least {len(SHARES)} groups of rows that share no template, and there are {len(sizes)}; "
            "write group or template in each row, or split by prompt"
        )
    rows, split = dict.fromkeys(SHARES, 0), {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], _place(name))):
        # An empty split goes first, or many small clusters would leave one of them empty.
        chosen = min(SHARES, key=lambda s: (rows[s] / (SHARES[s] * len(examples)), -SHARES[s]))
        split[name] = chosen
        rows[chosen] += sizes[name]
    return [split[name] for name in of]


def check_sidecar(corpus: Path, content_hash: str) -> None:
    """Refuse a corpus that is not the one that was split."""
    beside = sidecar_path(corpus)
    if not beside.is_file():
        return
    try:
        stored = json.loads(beside.read_text(encoding="utf-8"))
        if not isinstance(stored["content_hash"], str) or stored["by"] not in ("prompt", "group"):
            raise ValueError("a value that `split` does not write")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{beside} is damaged, so the split cannot be checked; split again with `tiny-ablate split`, or delete it"
        ) from error
    if stored["content_hash"] != content_hash:
        raise DataError(
            f"{corpus} was changed after it was split: {beside.name} says content hash {stored['content_hash']}, the rows now "
            f"give {content_hash}; split again with `tiny-ablate split {corpus} --by {stored['by']} --out {corpus} --force`"
        )


def _place(text: str) -> float:
    """A number in [0, 1) from the hash of a text; 53 bits, so that it is exact in a float and below 1."""
    digest = hashlib.sha256(text.encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _clusters(examples: Sequence[Example]) -> list[str]:
    """A name for each example, the same for those joined by a chain of shared groups and templates."""
    parent: dict[str, str] = {}

    def root(label: str) -> str:
        parent.setdefault(label, label)
        while parent[label] != label:
            parent[label] = label = parent[parent[label]]
        return label

    for example in examples:
        if example.template:
            first, second = sorted((root(f"group {example.group}"), root(f"template {example.template}")))
            parent[second] = first
    return [root(f"group {example.group}") for example in examples]
