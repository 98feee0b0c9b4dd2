"""Which circuits are looked at: the strongest heads of a ranking, at each fraction of all heads.

A circuit is a set of heads that is kept while every other head is replaced; its counterpart is the model without it.
"""

from dataclasses import dataclass
from typing import Any

from tiny_ablation.ablations.shared.head_ranking import HeadRanking, head_ranking, ranking_of_file
from tiny_ablation.ablations.shared.head_sets import HeadSet, random_sets
from tiny_ablation.ablations.shared.sites import Head
from tiny_ablation.config.seeds import generator
from tiny_ablation.models.hookpoints import ModelShape

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Mueller et al. 2025, MIB: A Mechanistic Interpretability Benchmark, section 3.2."""

MARGIN = 0.2
"""How far from 1 the f of a circuit that carries the behaviour may lie."""


def carries(low: Any, high: Any) -> Any:
    """Whether an f, or an interval of it, lies within the margin; of numbers or of arrays."""
    return (low >= 1 - MARGIN) & (high <= 1 + MARGIN)


EMPTY = "empty"
ROLES = ("kept", "removed")


def set_name(ranking: str, size: int, role: str) -> str:
    """The name of a circuit in the tables, such as `signed/top_14/kept`."""
    return f"{ranking}/top_{size}/{role}"


@dataclass(frozen=True)
class Design:
    """The circuits of a run."""

    earlier: HeadRanking  # what the ranking was made from
    orders: dict[str, tuple[Head, ...]]  # for each ranking all heads of the model, the first to be taken first
    fractions: tuple[float, ...]  # of all heads, ascending
    members: int  # how many of the first heads make the circuit whose members are tested one by one; 0 for none
    n_random: int  # random circuits to compare each with
    seed: int  # of the random circuits
    shape: ModelShape

    @property
    def n_heads(self) -> int:
        """Of the model."""
        return len(self.shape.heads())

    def size(self, fraction: float) -> int:
        """The number of heads that is nearest to a fraction of all."""
        return int(fraction * self.n_heads + 0.5)

    def sizes(self) -> list[int]:
        """The sizes that have to be run: neither the empty circuit nor the whole model."""
        found = {self.size(fraction) for fraction in self.fractions} | {self.members}
        return sorted(size for size in found if 0 < size < self.n_heads)

    def circuit(self, ranking: str, size: int) -> HeadSet:
        """The first heads of a ranking, in the order of the model."""
        return tuple(sorted(self.orders[ranking][:size]))

    def randoms_of(self, name: str, heads: HeadSet) -> list[HeadSet]:
        """Random counterparts of a circuit of any name, with as many heads in each layer."""
        return random_sets(heads, self.shape, self.n_random, self.seed, name) if self.n_random else []

    def tested(self, ranking: str) -> tuple[Head, ...]:
        """The members that are tested one by one, the strongest first."""
        return self.orders[ranking][: self.members]

    def inflating(self, ranking: str) -> list[Head]:
        """Random heads outside the tested circuit, each of which is put into it once."""
        rest = sorted(self.orders[ranking][self.members :])
        drawn = generator(self.seed, "controls", ranking, "inflated").permutation(len(rest))[: self.n_random]
        return [rest[i] for i in sorted(drawn.tolist())]


@dataclass(frozen=True)
class Minimal:
    """What a greedy search for the smallest circuit found."""

    heads: tuple[Head, ...]  # in the order of the model; empty where no beginning of the ranking carries the behaviour
    f: float | None  # of the circuit, on the examples that were searched on; None where there is no circuit
    start: int  # the size of the beginning that the search started from; 0 where there is none
    runs: int  # circuits that were run


def design(cfg: Any, shape: ModelShape, seed: int) -> Design:
    """The circuits that a config asks for.

    Heads that the earlier run did not measure come last, in the order of the model: nothing is known of them.

    Raises:
        ConfigError: the earlier run cannot be used.
    """
    earlier = ranking_of_file(cfg.ranking, shape) if cfg.ranking else head_ranking(cfg.from_run, shape)
    unknown = [head for head in shape.heads() if head not in earlier.effects]
    orders = {by: (*earlier.ranked(by), *unknown) for by in cfg.rankings}
    members = min(cfg.members, len(earlier.effects))
    return Design(earlier, orders, tuple(cfg.fractions), members, cfg.n_random, seed, shape)
