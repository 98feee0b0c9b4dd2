"""Named sets of heads, and random sets of the same size and layers to compare them with."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, islice, product
from math import comb, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tiny_ablation.ablations.shared.sites import Head, parse_head
from tiny_ablation.config.seeds import generator
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.models.labels import head_label
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.plan import Ablation
from tiny_ablation.stats.percentile import percentile_among

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
        drawn = [
            (layer, int(h)) for layer, k in per_layer for h in rng.choice(shape.n_heads, k, replace=False)
        ]
        if tuple(sorted(drawn)) != heads:
            found[tuple(sorted(drawn))] = None
    return list(found)


def _all_sets(heads: HeadSet, per_layer: list[tuple[int, int]], shape: ModelShape, n: int) -> list[HeadSet]:
    choices = [
        [[(layer, h) for h in chosen] for chosen in combinations(range(shape.n_heads), k)]
        for layer, k in per_layer
    ]
    every = (tuple(head for part in parts for head in part) for parts in product(*choices))
    return list(islice((found for found in every if found != heads), n))


def control_columns(sets: Measured, measured: Sequence[Measured], metric: str) -> dict[str, Any]:
    """For each named set its heads, and how its effect compares with that of its random sets; each (n_sets,).

    `percentile` is the share of random sets whose effect is below that of the set, equal ones counted half, times 100; so 0 and
    100 are both out of the ordinary. It is missing where there are no random sets, or none was finished.

    Args:
        sets: the arm of the named sets.
        measured: all arms; those with `controls_of` hold the random sets.
        metric: which effects.
    """
    random = {m.arm.controls_of: m for m in measured if m.arm.controls_of}
    found = [
        _compare(sets, i, random.get(str(row.key["set"])), metric) for i, row in enumerate(sets.arm.rows)
    ]
    return {
        "heads": [row.sites for row in sets.arm.rows],
        "control_mean": [mean for mean, _ in found],
        "percentile": [percentile for _, percentile in found],
    }


def _compare(sets: Measured, row: int, random: Measured | None, metric: str) -> tuple[float, float]:
    """(mean effect of the random sets, percentile), over the examples that both finished."""
    if random is None:
        return np.nan, np.nan
    sets, random = aligned([sets, random])
    if not len(sets.examples):
        return np.nan, np.nan
    others = random.mean_delta(metric)
    return float(others.mean()), percentile_among(sets.mean_delta(metric)[row], others)
