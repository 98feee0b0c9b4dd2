"""The hypotheses that a config declares under `sweep.hypotheses`, checked before anything runs. Imports nothing heavy.

sweep:
  hypotheses:
    suppressor: {test: effect_in_all, head: L0H2, sign: positive}
    apart: {test: double_dissociation, sets: {facts: [L0H1, L4H3], ioi: [L5H0, L6H2]}}
    order: {test: profiles_differ, between: [facts, ioi]}
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiny_ablation.ablations.shared.sites import Head, parse_head
from tiny_ablation.config.keys import unknown_choice
from tiny_ablation.config.schema import EffectSign
from tiny_ablation.errors import ConfigError, did_you_mean
from tiny_ablation.metrics.registry import metric_names
from tiny_ablation.sweep.analysis.effect_sign import worse_sign

RECOVERED = "recovered"  # what kinds that patch compute besides their metrics
SIGNS = ("positive", "negative", "hurts", "helps")


@dataclass(frozen=True)
class EffectInAll:
    """One component has an effect of one sign in every condition."""

    component: Mapping[str, int | str]  # its columns, such as `{"layer": 0, "head": 2}`
    sign: str  # of the effect: `positive` and `negative` are about delta, `hurts` and `helps` about the model's answer
    conditions: tuple[str, ...] | None  # labels; None for all


@dataclass(frozen=True)
class DoubleDissociation:
    """Each of two sets of heads hurts its own condition more than the other's."""

    sets: Mapping[str, tuple[Head, ...]]  # by the condition each belongs to; two


@dataclass(frozen=True)
class ProfilesDiffer:
    """The effects of all components together differ between two conditions."""

    between: tuple[str, str]  # two labels
    mirror: bool | None  # compare with the second's effects of opposite sign; None where the directions of patching decide


Claim = EffectInAll | DoubleDissociation | ProfilesDiffer


@dataclass(frozen=True)
class Hypothesis:
    """One declared hypothesis."""

    name: str  # its key in the config
    test: str  # which test
    metric: str | None  # None for the first that ranks components
    claim: Claim


def check_against_plan(settings: Mapping[str, Any], conditions: Collection[str], metrics: Collection[str]) -> None:
    """Refuse what the planned runs, of these conditions and metrics, cannot answer, before the first of them starts.

    `settings` is the config group `sweep`, as plain values.

    Raises:
        ConfigError: with the key.
    """
    known = [*metrics, RECOVERED]
    for name in settings["metrics"] or []:
        if name not in known:
            raise ConfigError(
                f"sweep.metrics={name}{did_you_mean(name, known)}: no run of this sweep computes it; choose one of "
                f"{', '.join(known)}"
            )
        if settings["direction"] != EffectSign.both.value and not worse_sign(name):
            raise ConfigError(f"sweep.direction={settings['direction']}: {name} has no side that hurts; take both")
    check_hypotheses(settings["hypotheses"], conditions, known)


def check_hypotheses(
    declared: Mapping[str, Any] | None, conditions: Collection[str] | None = None, metrics: Collection[str] | None = None
) -> list[Hypothesis]:
    """The declared hypotheses (the value of `sweep.hypotheses`, as plain dicts and lists), in their order.

    Their labels must be among the planned conditions and their metrics among those that the runs compute, where these are
    given.

    Raises:
        ConfigError: one is malformed; the message names its key.
    """
    if not isinstance(declared or {}, Mapping):
        raise ConfigError("sweep.hypotheses: give a name to each hypothesis: {NAME: {test: ...}}")
    return [_one(str(name), spec, conditions, metrics) for name, spec in (declared or {}).items()]


def _one(name: str, spec: Any, conditions: Collection[str] | None, metrics: Collection[str] | None) -> Hypothesis:
    here = f"sweep.hypotheses.{name}"
    if not isinstance(spec, Mapping) or spec.get("test") not in _TESTS:
        said = spec.get("test") if isinstance(spec, Mapping) else spec
        raise unknown_choice(f"{here}.test", said, [*_TESTS])
    read, required, optional = _TESTS[spec["test"]]
    allowed = sorted({"test", "metric", *required, *optional})
    if unknown := [str(key) for key in spec if key not in allowed]:
        raise ConfigError(
            f"{here}.{unknown[0]}{did_you_mean(unknown[0], allowed)}: test={spec['test']} has the keys {', '.join(allowed)}"
        )
    if missing := [key for key in required if spec.get(key) is None]:
        raise ConfigError(f"{here}.{missing[0]} is missing; test={spec['test']} needs {', '.join(required)}")
    claim = read(here, spec)
    for key, label in _labels(claim):
        # A label may end in a direction of patching, where a run has both.
        if conditions is not None and not any(label == c or label.startswith(f"{c} ") for c in conditions):
            meant = did_you_mean(label, conditions)
            raise ConfigError(f"{here}.{key}: {label} is no condition of this sweep{meant}; there are {', '.join(conditions)}")
    metric, known = spec.get("metric"), [*metric_names(), RECOVERED] if metrics is None else sorted(metrics)
    if metric is not None and metric not in known:
        raise unknown_choice(f"{here}.metric", metric, known)
    signed = isinstance(claim, DoubleDissociation) or getattr(claim, "sign", None) in ("hurts", "helps")
    if signed and metric and not worse_sign(metric):
        raise ConfigError(f"{here}.metric={metric}: the metric has no side that hurts; take another, such as logit_diff")
    return Hypothesis(name, spec["test"], metric, claim)


def _labels(claim: Claim) -> list[tuple[str, str]]:
    if isinstance(claim, EffectInAll):
        return [("conditions", label) for label in claim.conditions or ()]
    if isinstance(claim, DoubleDissociation):
        return [("sets", label) for label in claim.sets]
    return [("between", label) for label in claim.between]


def _effect_in_all(here: str, spec: Mapping[str, Any]) -> EffectInAll:
    if spec["sign"] not in SIGNS:
        raise ConfigError(f"{here}.sign={spec['sign']}: choose one of {', '.join(SIGNS)}")
    head, layer, granularity, conditions = (spec.get(key) for key in ("head", "layer", "granularity", "conditions"))
    if (head is None) == (layer is None):
        raise ConfigError(f"{here}: name one component: head: L0H2, or layer: 5")
    if head is not None:
        component: dict[str, int | str] = dict(zip(("layer", "head"), _head(f"{here}.head", head), strict=True))
    elif not isinstance(layer, int) or isinstance(layer, bool) or layer < 0:
        raise ConfigError(f"{here}.layer={layer}: give the number of a layer, from 0")
    else:
        component = {"layer": layer} | ({} if granularity is None else {"granularity": str(granularity)})
    return EffectInAll(component, spec["sign"], None if conditions is None else _texts(f"{here}.conditions", conditions))


def _head(key: str, value: Any) -> Head:
    if isinstance(value, float):  # 0.10 has become 0.1 by now
        raise ConfigError(f'{key}: {value} is a number, which loses a last zero; quote it ("{value}") or write L0H2')
    return parse_head(value, key=key)


def _double_dissociation(here: str, spec: Mapping[str, Any]) -> DoubleDissociation:
    sets = spec["sets"]
    if not isinstance(sets, Mapping) or len(sets) != 2:
        raise ConfigError(f"{here}.sets: give two conditions, each with its heads: {{facts: [L0H1], ioi: [L5H0]}}")
    found = {}
    for label, heads in sets.items():
        key = f"{here}.sets.{label}"
        if not isinstance(heads, Sequence) or isinstance(heads, str) or not heads:
            raise ConfigError(f"{key}: list its heads, such as [L0H1, L5H10]")
        found[str(label)] = tuple(sorted(_head(key, head) for head in heads))
        if len(set(found[str(label)])) < len(heads):
            raise ConfigError(f"{key} names a head more than once")
    return DoubleDissociation(found)


def _profiles_differ(here: str, spec: Mapping[str, Any]) -> ProfilesDiffer:
    labels = _texts(f"{here}.between", spec["between"])
    if len(set(labels)) != 2 or len(labels) != 2:
        raise ConfigError(f"{here}.between: name two conditions, such as [facts, ioi]")
    if not isinstance(spec.get("mirror"), bool | None):
        raise ConfigError(f"{here}.mirror={spec['mirror']}: true or false")
    return ProfilesDiffer((labels[0], labels[1]), spec.get("mirror"))


def _texts(key: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ConfigError(f"{key}: give a list of conditions")
    return tuple(map(str, values))


_Read = Callable[[str, Mapping[str, Any]], Claim]
# By name: how it is read, the keys it needs, and those it may have.
_TESTS: dict[str, tuple[_Read, tuple[str, ...], tuple[str, ...]]] = {
    "effect_in_all": (_effect_in_all, ("sign",), ("head", "layer", "granularity", "conditions")),
    "double_dissociation": (_double_dissociation, ("sets",), ()),
    "profiles_differ": (_profiles_differ, ("between",), ("mirror",)),
}
