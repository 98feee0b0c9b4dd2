"""What a kind asks the engine for, row by row of its impact table."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tiny_ablation.config.schema import AblationConfig
from tiny_ablation.engine.edits import Intervention
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.hookpoints import ModelShape

Key = Mapping[str, int | float | str]


@dataclass(frozen=True)
class SixTuple:
    """The coordinates of an intervention (Miller, Chughtai & Saunders 2024, "Transformer circuit faithfulness metrics").

    Attributes:
        granularity: what a site is: head, layer, pair, set, position, feature.
        component: the hook point that is written to.
        value: the replacement.
        positions: the tokens that are touched.
        direction: which run is intervened on, and whose values it gets.
        set: which sites are intervened on together.
    """

    granularity: str
    component: str
    value: str
    positions: str
    direction: str
    set: str = "single"


@dataclass(frozen=True)
class Row:
    """One row of the impact table per metric.

    Attributes:
        key: the index columns of the kind's table, such as `{"layer": 3, "head": 1, "scale": 0.0}`.
        intervention: what to run, or None where the result is the baseline by definition (a factor of 1).
        six: its coordinates.
    """

    key: Key
    intervention: Intervention | None
    six: SixTuple


@dataclass(frozen=True)
class Leg:
    """Rows that are measured against one baseline: runs of the same prompts.

    Attributes:
        prompts: what is run.
        rows: what is done to it.
        baseline: what the baseline is, in words, for tables and captions.
    """

    prompts: Sequence[Prompt]
    rows: Sequence[Row]
    baseline: str = "the clean prompt, un-intervened"


@dataclass(frozen=True)
class PlanContext:
    """What a kind may look at while planning.

    Attributes:
        shape: the model's sizes.
        clean: the clean prompts, in the order of the examples.
        corrupt: the paired prompts.
        groups: the cluster of each example.
        seed: the run's seed.
    """

    shape: ModelShape
    clean: Sequence[Prompt]
    corrupt: Sequence[Prompt]
    groups: Sequence[str]
    seed: int


class Kind(ABC):
    """An ablation kind.

    Attributes:
        name: the module's name and `ablation.kind`.
        table: the impact table it fills, a key of `tiny_ablation.results.schema.TABLES`.
        config: the dataclass of its keys under `ablation`.
        draws: what the seed draws in this kind besides the examples, such as `donors`; empty where nothing.
    """

    name: ClassVar[str]
    table: ClassVar[str]
    config: ClassVar[type[AblationConfig]]
    draws: ClassVar[tuple[str, ...]] = ()

    def check(self, cfg: Any) -> None:
        """Refuse settings that are wrong whatever the model is; runs before anything heavy is imported."""

    @abstractmethod
    def plan(self, cfg: Any, context: PlanContext) -> list[Leg]:
        """What to run.

        Raises:
            ConfigError: a setting does not fit the model or the data.
        """


@dataclass
class HeadSitesConfig(AblationConfig):
    """Keys of every kind whose sites are heads."""

    layers: list[int] | None = None  # null: all
    heads: list[int] | None = None  # null: all
    positions: str = "all"  # all | last


@dataclass
class LayerSitesConfig(AblationConfig):
    """Keys of every kind whose sites are layers."""

    layers: list[int] | None = None  # null: all
    positions: str = "all"  # all | last
