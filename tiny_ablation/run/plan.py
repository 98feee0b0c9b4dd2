"""What a kind asks the engine for, row by row of its impact table."""

# ruff: noqa: ARG002 - what a family need not say has a default here, which takes what it does not use

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tiny_ablation.config.keys import key
from tiny_ablation.config.schema import AblationConfig, ModelConfig
from tiny_ablation.document import Figure, Section
from tiny_ablation.engine.edits import Intervention
from tiny_ablation.engine.prompts import Prompt
from tiny_ablation.models.hookpoints import HEAD_COMPONENTS, ModelShape

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from tiny_ablation.models.network import Network
    from tiny_ablation.run.measure import Measured
    from tiny_ablation.run.prepare import PreparedRun
    from tiny_ablation.run.result import Result
    from tiny_ablation.sae.panel import FeatureFacts
    from tiny_ablation.store.reader import Run

Key = Mapping[str, int | float | str]
Site = tuple[int, int]  # (layer, unit), unit 0 where the whole component is one


@dataclass(frozen=True)
class InterventionSpec:
    """The coordinates of an intervention (Miller, Chughtai & Saunders 2024, "Transformer circuit faithfulness metrics")."""

    granularity: str  # what a site is: head, layer, pair, set, position, feature
    component: str  # the hook point that is written to
    value: str  # the replacement
    positions: str  # the tokens that are touched
    direction: str  # which run is intervened on, and whose values it gets
    set: str = "single"  # which sites are intervened on together


# By the coordinate of an intervention, the column of the impact table.
COORDINATES = {each.name: "replacement" if each.name == "value" else each.name for each in fields(InterventionSpec)}


@dataclass(frozen=True)
class Row:
    """One row of the impact table per metric."""

    key: Key  # the index columns of the kind's table, such as `{"layer": 3, "head": 1, "scale": 0.0}`
    intervention: Intervention | None  # what to run, or None where the result is the baseline by definition (a factor of 1)
    described: InterventionSpec
    # further random draws of the same intervention; the row's values are the means over it and these
    draws: tuple[Intervention, ...] = ()
    sites: str = ""  # what is intervened on, in words, where the key does not say so: the heads of a set

    @property
    def runs(self) -> tuple[Intervention, ...]:
        """Everything that is run for this row."""
        return (*(() if self.intervention is None else (self.intervention,)), *self.draws)


@dataclass(frozen=True)
class Estimates:
    """What gradients say about every site."""

    component: str  # where the sites are
    metric: str  # the metric whose change is estimated
    how: str  # `gradient`, or `integrated` with its steps; and whether a few exact effects corrected them
    passes: int  # backward passes over each example that it took, those of several draws together
    sites: Sequence[Site]
    values: "np.ndarray"  # (n_sites,) the estimated effect, mean over the examples
    top: Sequence[Site]  # the sites with the largest estimates, largest first
    sample: Sequence[Site]  # sites drawn at random from all of them, whatever their estimate
    # the replacement that was estimated, of several draws the first; rows with it are what estimates are held against
    replacement: Any
    also: Sequence[Site] = ()  # sites that the config names besides; a sweep names what the screenings of its other runs chose
    pilot_runs: float = 0.0  # forward passes over each example that correcting the estimates took

    @property
    def measured(self) -> frozenset[Site]:
        """Every site that is measured."""
        return frozenset((*self.top, *self.sample, *self.also))


@dataclass(frozen=True)
class Arm:
    """Rows that are measured against one baseline: runs of the same prompts."""

    prompts: Sequence[Prompt]
    rows: Sequence[Row]  # what is done to it
    baseline: str = "the clean prompt, un-intervened"  # what the baseline is, in words, for tables and captions
    # which end runs: of a pair of prompts `clean` or `corrupt`, of two models `base` or `tuned`; where both do, the share that
    # is recovered is reported
    run: str = "clean"
    in_table: bool = True  # whether its rows stand in the impact table; otherwise they only serve to compute other columns
    self_patch: bool = False  # every row patches the run with itself, so an effect is an error
    # made in every run, the baseline included: noise where the prompt enters the first block
    base_intervention: Intervention | None = None
    controls_of: str = ""  # the set that the rows of this arm are random counterparts of; empty for what was asked for
    # what was drawn or looked up to make the rows, such as the reference set; JSON values, for `summary.json`
    notes: Mapping[str, Any] = field(default_factory=dict)
    # what gradients said about all sites before these were chosen; None where nothing was estimated
    estimates: Estimates | None = None
    # what is known of the features that the rows are about; None where they are about something else
    features: "FeatureFacts | None" = None
    files: Mapping[str, Path] = field(default_factory=dict)  # what to copy into the run's directory, by the path there
    left_out: "LeftOut | None" = None  # of an outline, what it did not make; None where everything was made
    network: "Network | None" = None  # the model that runs; None is the run's own

    @property
    def runs(self) -> list[Intervention]:
        """Everything that is run, in the order of the rows."""
        return [run for row in self.rows for run in row.runs]


@dataclass(frozen=True)
class LeftOut:
    """What the run makes before it measures and an outline does not."""

    what: str  # in words
    operations: float  # floating-point operations of its matrix products


@dataclass(frozen=True)
class ReferenceSet:
    """Examples of the corpus that this run does not evaluate, for means."""

    prompts: Sequence[Prompt]  # their clean prompts
    templates: Sequence[str]  # the wording of each
    splits: Sequence[str]  # the split of each
    available: int  # how many there were to draw from
    corrupt: Sequence[Prompt] = ()  # their corrupt prompts, of which those that have none are empty

    @property
    def composition(self) -> dict[str, Any]:
        """Its size and what it is made of."""
        return {
            "n": len(self.prompts),
            "n_tokens": sum(len(p.ids) for p in self.prompts),
            "available": self.available,
            "splits": dict(sorted(Counter(self.splits).items())),
            "templates": dict(sorted(Counter(self.templates).items())),
        }


@dataclass(frozen=True)
class PlanContext:
    """What a kind may look at while planning."""

    network: "Network"
    clean: Sequence[Prompt]  # the clean prompts, in the order of the examples
    corrupt: Sequence[Prompt]  # the paired prompts
    groups: Sequence[str]  # the cluster of each example
    templates: Sequence[str]  # the wording of each example
    seed: int
    full: bool  # whether whole answers are scored, teacher-forced, so that `positions=all` also touches their tokens
    # draws at most so many examples that are not evaluated; raises ConfigError where there are none
    reference: Callable[[int], ReferenceSet]
    # whether only the cost of the rows is asked for: what takes minutes is not made, and rows that cost as much stand for those
    # that would follow from it (`Arm.left_out`)
    outline: bool = False
    metric: str = "logit_diff"
    # the model that the ablation names besides (`Ablation.other_model`), of the same shape and with the same tokens
    other: "Network | None" = None

    @property
    def shape(self) -> ModelShape:
        """The model's sizes."""
        return self.network.shape


@dataclass(frozen=True)
class Analysis:
    """What an ablation makes of its own measurements, beside the impact table."""

    tables: "Mapping[str, pd.DataFrame]" = field(default_factory=dict)  # by the stem of their file under `metrics/`
    summary: Mapping[str, Any] = field(default_factory=dict)  # further keys of `summary.json`
    warnings: Sequence[str] = ()  # what a reader of the numbers must know
    # what follows from several arms, beside the notes of each; JSON values
    notes: Mapping[str, Any] = field(default_factory=dict)


class Ablation(ABC):
    """An ablation kind.

    Attributes:
        name: the module's name and `ablation.kind`.
        table: the impact table it fills, a key of `tiny_ablation.store.schema.TABLES`.
        config: the dataclass of its keys under `ablation`.
        draws: what the seed draws in this kind besides the examples, such as `donors`; empty where nothing.
        confirmable: whether some of its sites can be measured alone on other examples (`stats.confirm`).
        effect_name: what the literature calls its effects; empty where it has no name for them.
        has_circuits: whether its runs measure circuits, whose heads `circuit` names.
        ranked: whether its sites can be told apart by their ranks; sets that hold each other cannot.
        on_text: whether its effects can be on what the model writes (`metrics.span=text`).
    """

    name: str
    table: str
    config: type[AblationConfig]
    draws: ClassVar[tuple[str, ...]] = ()
    confirmable: ClassVar[bool] = True
    effect_name: ClassVar[str] = ""
    has_circuits: ClassVar[bool] = False
    ranked: ClassVar[bool] = True
    on_text: ClassVar[bool] = True

    def check(self, cfg: Any) -> None:
        """Refuse settings that are wrong whatever the model is; runs before anything heavy is imported."""

    def table_of(self, cfg: Any) -> str:
        """The impact table that this config fills."""
        return self.table

    def input_digest(self, cfg: Any) -> str:
        """What identifies results of earlier runs that the plan is made from; empty where there are none."""
        return ""

    def other_model(self, cfg: Any) -> ModelConfig | None:
        """A second model that the run needs beside its own; its weights count for what the run is."""
        return None

    def excluded_examples(self, cfg: Any, context: PlanContext) -> Mapping[int, str]:
        """The examples to leave out on the user's request, each with the reason."""
        return {}

    def random_components(self, cfg: Any, n_rest: int) -> tuple[str, ...]:
        """What the seed draws here, where that depends on the config or on how many examples are not evaluated."""
        return self.draws

    def without_screening(self, cfg: Any) -> Any:
        """The same config with every site planned, whatever estimates say about the examples at hand."""
        return cfg

    def combine(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> "Sequence[Measured]":
        """The arms as the tables show them, where several are one measurement; values may be NaN where there is nothing."""
        return measured

    def columns(
        self, prepared: "PreparedRun", measured: "Measured", arms: "Sequence[Measured]", metric: str
    ) -> Mapping[str, Any]:
        """Columns that only its impact table has, a value for each row of `measured`, which is one of the arms."""
        return {}

    def shares(self, prepared: "PreparedRun", arms: "Sequence[Measured]") -> "Iterable[tuple[Measured, Mapping[str, Any]]]":
        """Further rows of the impact table, as columns by arm: of numbers that are ratios of means, and of no one example."""
        return ()

    def analyse(self, prepared: "PreparedRun", measured: "Sequence[Measured]") -> Analysis:
        """Tables and summaries of its own."""
        return Analysis()

    def summarise(self, effects: "pd.DataFrame") -> Mapping[str, Any]:
        """Further keys of `summary.json`, from the rows of the impact table on the primary metric."""
        return {}

    def sections(self, summary: Mapping[str, Any]) -> list[Section]:
        """What people are shown of these beside the effects and their evidence, from the content of `summary.json`."""
        return []

    def figures(self, result: "Result") -> "Iterable[Figure]":
        """What is drawn of a finished run beside its effects, from the tables and the summary that it wrote."""
        return ()

    def circuit(self, run: "Run", ranking: str, size: int | None) -> "Sequence[tuple[int, int]]":
        """The (layer, head) in one circuit of a finished run, where `has_circuits`.

        Args:
            run: the run.
            ranking: by which its heads were chosen.
            size: how many; None is the fewest that carry the behaviour.

        Raises:
            ResultsError: there is no such circuit.
        """
        raise NotImplementedError

    @abstractmethod
    def plan(self, cfg: Any, context: PlanContext) -> list[Arm]:
        """What to run.

        Raises:
            ConfigError: a setting does not fit the model or the data.
        """


def positions_key(about: str = "the tokens that are intervened on") -> Any:
    """The key `positions` of kinds that touch all tokens or the last one."""
    return key("all", help=about, choices=("all", "last"))


@dataclass
class HeadSitesConfig(AblationConfig):
    """Keys of every kind whose sites are heads."""

    layers: list[int] | None = key(None, help="null: all")
    heads: list[int] | None = key(None, help="of every layer; null: all")
    component: str = key("z", help="z: what a head writes; k and v are counted on the key/value axis", choices=HEAD_COMPONENTS)
    positions: str = positions_key()


@dataclass
class LayerSitesConfig(AblationConfig):
    """Keys of every kind whose sites are layers."""

    layers: list[int] | None = key(None, help="null: all")
    positions: str = positions_key()
