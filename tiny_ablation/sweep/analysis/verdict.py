"""What every test of a hypothesis gives back, and how the profiles that it is about are found."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from tiny_ablation.sweep.analysis.effects import Effects, Profile
from tiny_ablation.sweep.analysis.examples import Examples, Grouped

LEVEL = 0.05
RESOLUTION = 1e-4
"""About the smallest p-value that the draws of a hypothesis' test can give."""


class NotTestable(Exception):
    """The finished runs do not hold what the hypothesis is about; the message says what is missing."""


@dataclass(frozen=True)
class Verdict:
    """One test.

    Attributes:
        statement: what is claimed, in a sentence.
        null: the null hypothesis of the p-value.
        p_value: NaN where it could not be estimated.
        resolution: the smallest p-value that the test could have given.
        parts: what went into it, one entry each.
        notes: what to know.
    """

    statement: str
    null: str
    p_value: float
    resolution: float
    parts: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


class Source(Protocol):
    """One grid with its examples."""

    @property
    def effects(self) -> Effects:
        """The grid."""
        ...

    @property
    def examples(self) -> Examples:
        """Its examples by group."""
        ...


@dataclass(frozen=True)
class Place:
    """A profile with where it stands."""

    source: Source
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


def places(sources: Sequence[Source], label: str | None = None) -> Iterator[Place]:
    """The profiles of a condition (or of exactly this label), in the order of the plan; all without a label."""
    for source in sources:
        for profile in source.effects.profiles:
            if label is None or label in (profile.label, profile.condition):
                yield Place(source, profile)


def the_place(sources: Sequence[Source], label: str) -> Place:
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
