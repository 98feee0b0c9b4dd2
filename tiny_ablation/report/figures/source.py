"""What the figures of a run are drawn from: one impact table, the summary, and the run's other files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd

from tiny_ablation.report import tables, vocabulary
from tiny_ablation.store.rundir import RunDir

Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class RunSource:
    """One impact table of one run.

    Attributes:
        run: the run's directory, for what stands in other files.
        impact: the impact table.
        summary: the content of `metrics/summary.json`.
    """

    run: RunDir
    impact: pd.DataFrame
    summary: Mapping[str, Any]

    @property
    def metric(self) -> str:
        """The metric that figures show."""
        return self.summary["primary"]

    @property
    def confidence(self) -> float:
        """Of the intervals."""
        return self.summary.get("confidence", 0.95)

    @cached_property
    def index(self) -> tuple[str, ...]:
        """The columns that name a site."""
        return tables.index_columns(self.impact)

    @property
    def title(self) -> str:
        """What was done, to what, on what: `heads_zero: attention heads of smollm2_135m on facts`."""
        many = vocabulary.noun(self.index, 2)
        return f"{self.summary['kind']}: {many} of {self.summary['model']} on {self.summary['dataset']}"

    @cached_property
    def several_directions(self) -> bool:
        """Whether a site has several rows, which one cell of a map cannot show."""
        return len(set(self.impact["direction"])) > 1


def of_impact(
    collect: Callable[[pd.DataFrame, str, str, float], Drawn],
) -> Callable[[RunSource], Drawn]:
    """A reader of an impact table as a reader of a run."""
    return lambda source: collect(source.impact, source.metric, source.title, source.confidence)
