"""A finished run as people are shown it: one impact table, the summary, and the run's other files."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tiny_ablation import formats
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.store.rundir import RunDir

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """One impact table of one run."""

    run: RunDir  # the run's directory, for what stands in other files
    impact: "pd.DataFrame"  # the impact table
    summary: Mapping[str, Any]  # the content of `metrics/summary.json`

    @property
    def metric(self) -> str:
        """The metric that figures show."""
        return self.summary["primary"]

    @property
    def confidence(self) -> float:
        """Of the intervals."""
        return self.summary.get("confidence", 0.95)

    @property
    def percent(self) -> str:
        """Of the intervals, such as `95 %`."""
        return formats.percent(self.confidence)

    @cached_property
    def index(self) -> tuple[str, ...]:
        """The columns that name a site."""
        return effects.index_columns(self.impact)

    @cached_property
    def rows(self) -> "pd.DataFrame":
        """The effects on the metric that figures show (`effects.of_metric`). Raises ResultsError: there are none."""
        return effects.of_metric(self.impact, self.metric)

    @property
    def title(self) -> str:
        """What was done, to what, on what: `heads_zero: attention heads of smollm2_135m on facts`."""
        many = vocabulary.noun(self.index, 2)
        return f"{self.summary['kind']}: {many} of {self.summary['model']} on {self.summary['dataset']}"

    @cached_property
    def several_directions(self) -> bool:
        """Whether a site has several rows, which one cell of a map cannot show."""
        return len(set(self.impact["direction"])) > 1

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that tell one row from another: `index`, and the direction of patching where there are several."""
        return (*self.index, "direction") if self.several_directions else self.index
