"""The result of a test of a hypothesis, and how a test finds the profiles that it is about."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tiny_ablation.sweep.analysis.effects import Effects, Profile
from tiny_ablation.sweep.analysis.examples import Examples, Grouped

RESOLUTION = 1e-4
"""About the smallest p-value that the draws of a hypothesis' test can give."""


class NotTestable(Exception):
    """The finished runs lack what the hypothesis is about; the message says what."""


@dataclass(frozen=True)
class Verdict:
    """One test."""

    statement: str  # what is claimed, in a sentence
    null: str  # the null hypothesis of the p-value
    p_value: float  # NaN where it could not be estimated
    resolution: float  # the smallest p-value that the test could have given
    parts: list[dict[str, Any]]  # what went into it, one entry each
    notes: list[str] = field(default_factory=list)  # what to know


class MeasuredGrid(NamedTuple):
    """What a test can look at: one grid with its examples."""

    effects: Effects
    examples: Examples


@dataclass(frozen=True)
class Place:
    """A profile with where it stands."""

    source: MeasuredGrid
    profile: Profile

    def grouped(self, metric: str) -> Grouped:
        """Its effects by group of examples.

        Raises:
            NotTestable: the runs keep no per-example value of the metric, or examples are of one group.
        """
        found = self.source.examples.grouped(self.profile, metric)
        if found is None:
            raise NotTestable(f"{self.profile.label} keeps no per-example values of {metric}")
        if len(found.groups) < 2:
            raise NotTestable(f"the examples of {self.profile.label} are of one group, so nothing can be tested over groups")
        return found


def places(sources: Sequence[MeasuredGrid], label: str | None = None) -> Iterator[Place]:
    """The profiles of a condition (or of exactly this label), in the order of the plan; all without a label."""
    for source in sources:
        for profile in source.effects.profiles:
            if label is None or label in (profile.label, profile.condition):
                yield Place(source, profile)


def the_place(sources: Sequence[MeasuredGrid], label: str) -> Place:
    """The only profile of a label.

    Raises:
        NotTestable: no run of it finished, or there are several.
    """
    found = list(places(sources, label))
    if not found:
        raise NotTestable(f"no run of {label} finished")
    if len(found) > 1:
        names = ", ".join(place.profile.label for place in found)
        raise NotTestable(f"{label} has several profiles ({names}); name one of them")
    return found[0]


def largest(p_values: Sequence[float]) -> float:
    """The p-value of an intersection-union test; NaN where a part has none."""
    return float(np.max(p_values))
