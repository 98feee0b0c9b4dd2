"""`python -m tiny_ablation` is the same as the console script `tiny-ablate`."""

from tiny_ablation.cli import entry

entry()
