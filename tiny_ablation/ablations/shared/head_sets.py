"""Named sets of heads, and random sets of the same size and layers to compare them with."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, islice, product
from math import comb, prod
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.shared.sites import Head, parse_head
from tiny_ablation.config.seeds import generator
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.models.labels import head_label
from tiny_ablation.run.plan import Ablation

if TYPE_CHECKING:
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun

HeadSet = tuple[Head, ...]  # ascending


class SetAblation(Ablation):
    """Named sets of heads, each compared with its random sets: the arms with `controls_of`."""

    table = "set_impact"
    ranked = False

    def columns(
        self,
        prepared: "PreparedRun",  # noqa: ARG002
        measured: "Measured",
        arms: "Sequence[Measured]",
        metric: str,
    ) -> Mapping[str, Any]:
        """The heads of each set, and where it stands among its random sets."""
        from tiny_ablation.ablations.shared.random_sets import control_columns

        return control_columns(measured, arms, metric)


def parse_sets(sets: Any, shape: ModelShape | None = None) -> dict[str, HeadSet]:
    """The heads of each named set.

    Args:
        sets: {name: list of heads as in `parse_head`, or as `[layer, head]`}.
        shape: the model's sizes; without it only the notation is checked.

    Raises:
        ConfigError: a set is empty, names a head twice, or names what is no head of the model.
    """
    if not sets or not isinstance(sets, Mapping):
        raise ConfigError(
            f"ablation.sets={sets}: name at least one set and its heads, such as 'ablation.sets={{early: [L0H1, L1H3]}}'"
        )
    return {str(name): _parse_set(str(name), heads, shape) for name, heads in sets.items()}


def _parse_set(name: str, heads: Sequence[Any], shape: ModelShape | None) -> HeadSet:
    key = f"ablation.sets.{name}"
    if not heads or not isinstance(heads, Sequence) or isinstance(heads, str):
        raise ConfigError(f"{key}={heads}: list its heads, such as [L0H1, L1H3]")
    found = [parse_head(_joined(head), shape, key) for head in heads]
    twice = [head for head, count in Counter(found).items() if count > 1]
    if twice:
        raise ConfigError(f"{key} names {head_label(*twice[0])} more than once")
    return tuple(sorted(found))


def _joined(head: Any) -> Any:
    """`[5, 10]` as `5.10`; anything else is left to `parse_head`."""
    pair = isinstance(head, (list, tuple)) and len(head) == 2 and all(type(part) is int for part in head)
    return f"{head[0]}.{head[1]}" if pair else head


def label(heads: HeadSet) -> str:
    """For tables: `L0H1 L5H10`."""
    return " ".join(head_label(*head) for head in heads)


def complement(heads: HeadSet, shape: ModelShape) -> HeadSet:
    """All heads of the model but these."""
    return tuple(sorted(set(shape.heads()) - set(heads)))


def random_sets(heads: HeadSet, shape: ModelShape, n: int, seed: int, name: str) -> list[HeadSet]:
    """At most `n` different sets with as many heads in each layer as `heads` has, none of them `heads` itself.

    Args:
        heads: the set to compare with.
        shape: the model's sizes.
        n: how many; fewer where there are no more.
        seed: the run's seed.
        name: of the set, so that sets have draws of their own.
    """
    per_layer = sorted(Counter(layer for layer, _ in heads).items())
    if prod(comb(shape.n_heads, k) for _, k in per_layer) - 1 <= n:
        return _all_sets(heads, per_layer, shape, n)
    rng, found = generator(seed, "controls", name), {}
    while len(found) < n:
        drawn = [(layer, int(h)) for layer, k in per_layer for h in rng.choice(shape.n_heads, k, replace=False)]
        if tuple(sorted(drawn)) != heads:
            found[tuple(sorted(drawn))] = None
    return list(found)


def _all_sets(heads: HeadSet, per_layer: list[tuple[int, int]], shape: ModelShape, n: int) -> list[HeadSet]:
    choices = [[[(layer, h) for h in chosen] for chosen in combinations(range(shape.n_heads), k)] for layer, k in per_layer]
    every = (tuple(head for part in parts for head in part) for parts in product(*choices))
    return list(islice((found for found in every if found != heads), n))
