"""Induction over letters: the task of the models whose circuit is known, in their own 24 words.

The prompts are made as those of `induction`: "p o b n e o b" -> " n"; see there for marks, pairs and
corruptions. All splits share the letters, for the models know no others. The lengths of the list differ
between them, and are lengths that the models were trained on.
"""

import string

from tiny_ablation.data.families import Family
from tiny_ablation.data.families._build import partition
from tiny_ablation.data.families.induction import repeated_lists
from tiny_ablation.data.guards import SPLITS

LETTERS = tuple(string.ascii_lowercase[:24])
PERIODS = tuple(range(4, 12))

FAMILY = Family(
    name="induction_tokens",
    description="Continue a list of random letters that begins a second time.",
    build=repeated_lists("induction_tokens", dict.fromkeys(SPLITS, LETTERS), partition(PERIODS)),
    seeded=True,
    corruptions=("flipped", "unrepeated"),
    answer_in_prompt=True,
)
