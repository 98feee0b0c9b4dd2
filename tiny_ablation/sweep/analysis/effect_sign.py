"""How strong an effect is: by size, or towards what makes the model worse, or better, at its answer."""

from typing import TYPE_CHECKING

from tiny_ablation.config.schema import EffectSign
from tiny_ablation.metrics.registry import metric, metric_names

if TYPE_CHECKING:
    from tiny_ablation.stats.clusters import Floats


def worse_sign(name: str) -> int:
    """Which way the metric moves when the model gets worse: -1, 1, or 0 where neither way is worse.

    `recovered` has no such side: between the two prompts' answers, up is better in one direction of patching and says that
    nothing was lost in the other.
    """
    return metric(name).worse if name in metric_names() else 0


def convention(name: str) -> str:
    """What hurting means for the metric, in a few words."""
    return {-1: "a fall hurts", 1: "a rise hurts", 0: "neither way hurts"}[worse_sign(name)]


def strength(effects: "Floats", name: str, direction: EffectSign) -> "Floats":
    """The effects (any shape) on a metric as scores: higher is stronger, and 0 or less is not what was asked for.

    In the direction `both` these are absolute effects; in `hurts` and `helps` signed by `worse_sign`, so all 0 where it is 0.
    """
    if direction is EffectSign.both:
        return abs(effects)
    sign = worse_sign(name) if direction is EffectSign.hurts else -worse_sign(name)
    return effects * float(sign)
