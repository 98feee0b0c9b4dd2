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
        """For each named set its heads, and how its effect compares with those of its random sets; each (n_sets,).

        `percentile` is the share of random sets whose effect is below that of the set, equal ones counted half, times 100, over
        the examples that both finished; 0 and 100 are both out of the ordinary. It is missing where there are no random sets,
        or none was finished.
        """
        import numpy as np

        from tiny_ablation.run.measure import aligned
        from tiny_ablation.stats.percentile import percentile_among

        means, percentiles = np.full((2, len(measured.arm.rows)), np.nan)
        controls = {m.arm.controls_of: m for m in arms if m.arm.controls_of}
        for i, row in enumerate(measured.arm.rows):
            if (random := controls.get(str(row.key["set"]))) is None:
                continue
            own, random = aligned([measured, random])
            if len(own.examples):
                others = random.mean_delta(metric)
                means[i], percentiles[i] = others.mean(), percentile_among(own.mean_delta(metric)[i], others)
        return {"heads": [row.sites for row in measured.arm.rows], "control_mean": means, "percentile": percentiles}


def parse_sets(sets: Any, shape: ModelShape | None = None) -> dict[str, HeadSet]:
    """The heads of each named set, given as {name: list of heads as in `parse_head`, or as `[layer, head]`}.

    Without `shape` only the notation is checked.

    Raises:
        ConfigError: a set is empty, names a head twice, or names a head that the model does not have.
    """
    if not sets or not isinstance(sets, Mapping):
        raise ConfigError(
            f"ablation.sets={sets}: name at least one set and its heads, such as 'ablation.sets={{early: [L0H1, L1H3]}}'"
        )
    return {str(name): _parse_set(f"ablation.sets.{name}", heads, shape) for name, heads in sets.items()}


def _parse_set(key: str, heads: Sequence[Any], shape: ModelShape | None) -> HeadSet:
    if not heads or not isinstance(heads, Sequence) or isinstance(heads, str):
        raise ConfigError(f"{key}={heads}: list its heads, such as [L0H1, L1H3]")
    found = []
    for head in heads:
        pair = isinstance(head, (list, tuple)) and len(head) == 2 and all(type(part) is int for part in head)
        found.append(parse_head(f"{head[0]}.{head[1]}" if pair else head, shape, key))
    twice = [head for head, count in Counter(found).items() if count > 1]
    if twice:
        raise ConfigError(f"{key} names {head_label(*twice[0])} more than once")
    return tuple(sorted(found))


def label(heads: HeadSet) -> str:
    """For tables: `L0H1 L5H10`."""
    return " ".join(head_label(*head) for head in heads)


def complement(heads: HeadSet, shape: ModelShape) -> HeadSet:
    """All heads of the model but these."""
    return tuple(sorted(set(shape.heads()) - set(heads)))


def random_sets(heads: HeadSet, shape: ModelShape, n: int, seed: int, name: str) -> list[HeadSet]:
    """`n` different sets with as many heads in each layer as `heads` has, none of them `heads`; fewer where there are no more.

    Sets of different names have draws of their own.
    """
    per_layer = sorted(Counter(layer for layer, _ in heads).items())
    if prod(comb(shape.n_heads, k) for _, k in per_layer) - 1 <= n:
        of_layers = [[[(layer, h) for h in hs] for hs in combinations(range(shape.n_heads), k)] for layer, k in per_layer]
        every = (tuple(head for part in parts for head in part) for parts in product(*of_layers))
        return list(islice((found for found in every if found != heads), n))
    rng, found = generator(seed, "controls", name), {}
    while len(found) < n:
        drawn = [(layer, int(h)) for layer, k in per_layer for h in rng.choice(shape.n_heads, k, replace=False)]
        if tuple(sorted(drawn)) != heads:
            found[tuple(sorted(drawn))] = None
    return list(found)
