"""What identifies a run: a digest over everything that defines its result, and nothing else.

Two runs with one digest give the same tables to the byte. Left out are machine settings, paths (the content they lead to is
hashed instead), tracking and notes: every key that the schema declares with `identity=False`.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiny_ablation.config.keys import leaves
from tiny_ablation.version import __version__

# Raise it when results of equal input change, so that old results are not taken for new ones.
RESULT_VERSION = 2

# Distributions whose code decides a number or a token: torch (all products and gradients), transformers (the models' code and
# masks), tokenizers (token ids), transformer-lens (hook points), sae-lens (autoencoders), numpy and scipy (draws, statistics).
# Not gguf: a converted model is kept with the versions that converted it. Not pandas and pyarrow: they carry numbers.
NUMERIC_PACKAGES = ("torch", "transformers", "tokenizers", "transformer-lens", "sae-lens", "numpy", "scipy")

CODE = ("result_version", "code_version", "versions")  # what all runs of one sweep are made of


@dataclass(frozen=True)
class Identity:
    """What a run is."""

    digest: str  # SHA-256 of `covers`
    covers: dict[str, Any]  # what the digest was made of

    @property
    def run_id(self) -> str:
        """The short name of the run in every table."""
        return self.digest[:16]


def identify(
    defining: dict[str, Any],
    *,
    condition: str,
    data: str,
    splits: str,
    weights: str,
    versions: Mapping[str, str | None],
    other_weights: str = "",
    inputs: str = "",
    tokenizers: Mapping[str, str | None] | None = None,
) -> Identity:
    """The identity of a run, from its config without the keys that define no result, and hashes of all that it reads.

    `inputs` are earlier results; `tokenizers` those of other models that choose the examples, by the models' names.
    """
    covers = {
        "result_version": RESULT_VERSION,
        "code_version": __version__,
        "versions": dict(versions),
        "config": defining | {"condition": condition},
        "data_hash": data,
        "split_hash": splits,
        "weights": weights,
        **({"other_weights": other_weights} if other_weights else {}),
        **({"inputs": inputs} if inputs else {}),
        **({"tokenizers": dict(tokenizers)} if tokenizers else {}),
    }
    return Identity(hash_json(covers), covers)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between the `covers` of two runs, in words such as `torch 2.12.0 there, 2.13.0 here`.

    `here` may have some of the keys only; the others are not compared.
    """
    old, new, found = dict(leaves(there, empty=True)), dict(leaves(here, empty=True)), []
    for name in {**new, **old}:
        if name.partition(".")[0] in here and old.get(name) != new.get(name):
            bare = name.removeprefix("config.").removeprefix("versions.").replace("tokenizers.", "tokenizer of ")
            found.append(f"{_NAMES.get(name, bare)} {_short(old.get(name))} there, {_short(new.get(name))} here")
    return found


_NAMES = {
    "result_version": "result version",
    "code_version": "tiny-ablate",
    "data_hash": "data",
    "split_hash": "splits",
    "inputs": "earlier results or text",
    "other_weights": "weights of the second model",
}


def _short(value: Any) -> str:
    """A value as it stands in a sentence: hashes by their first digits."""
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return re.sub(r"[0-9a-f]{32,}", lambda found: found[0][:12], text)


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")).hexdigest()
