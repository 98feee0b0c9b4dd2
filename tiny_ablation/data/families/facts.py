"""Facts that a small model knows, each asked beside the same question about another subject.

The corpus is a file, `corpora/facts.jsonl`, written for this tool. `group` is the wording, `relation` what is
asked. Under the default model's tokenizer every answer is one token, and both prompts of a pair have the same
number of tokens.
"""

import json
from pathlib import Path

from tiny_ablation.data.examples import Example
from tiny_ablation.data.families import Family

_FILE = Path(__file__).resolve().parent.parent / "corpora" / "facts.jsonl"


def build(seed: int, corruption: str) -> list[Example]:  # noqa: ARG001 - the corpus is written, not drawn
    """Every fact, in the order of the file."""
    return [Example(**json.loads(line)) for line in _FILE.read_text(encoding="utf-8").splitlines()]


FAMILY = Family(
    name="facts",
    description="Complete a fact: 'The capital of France is' with ' Paris'.",
    build=build,
    corruptions=("subject",),
)
