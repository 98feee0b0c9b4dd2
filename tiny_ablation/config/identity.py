"""What identifies a run: a digest over everything that defines its result, and nothing else.

Two runs with one digest give the same tables to the byte. Left out are machine settings, paths (the content they lead to is
hashed instead), tracking and notes. The keys are listed here beside the comments `identity: no` of the schema; a test holds
the two together.
"""

import copy
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from tiny_ablation.version import __version__

# Raise it when results of equal input change, so that old results are not taken for new ones.
RESULT_VERSION = 2

NOT_IDENTITY = (
    "device.name", "device.index", "device.threads", "device.batch_tokens", "device.deterministic",
    "model.path", "dataset.path", "dataset.fields",
    "ablation.from_run", "ablation.sae.path", "ablation.sae.corpus", "ablation.sae.checkpoint_every",
    "sae", "tracking", "profile", "sweep", "resume", "notes", "experiment",
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """What a run is.

    Attributes:
        digest: SHA-256 of `covers`.
        covers: what the digest was made of.
    """

    digest: str
    covers: dict[str, Any]

    @property
    def run_id(self) -> str:
        """The short name of the run in every table."""
        return self.digest[:16]


def identify(
    plain: dict[str, Any], *, condition: str, data: str, splits: str, weights: str, inputs: str = ""
) -> Identity:
    """The identity of a run.

    Args:
        plain: the resolved config as nested dicts.
        condition: the label that stands in the tables.
        data: content hash of the corpus.
        splits: hash of the assignment of examples to splits.
        weights: what identifies the weights.
        inputs: what identifies earlier results that the run reads, if it does.
    """
    covers = {
        "result_version": RESULT_VERSION,
        "code_version": __version__,
        "config": without(plain, NOT_IDENTITY) | {"condition": condition},
        "data_hash": data,
        "split_hash": splits,
        "weights": weights,
        **({"inputs": inputs} if inputs else {}),
    }
    return Identity(hash_json(covers), covers)


def without(plain: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """A copy of nested dicts without the dotted keys."""
    out = copy.deepcopy(plain)
    for key in keys:
        *parents, last = key.split(".")
        node = out
        for parent in parents:
            node = node.get(parent) or {}
        node.pop(last, None)
    return out


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")
    ).hexdigest()
