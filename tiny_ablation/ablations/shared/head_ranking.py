"""Heads as an earlier run ranked them: what `ablation.from_run=DIR` names."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tiny_ablation.ablations.shared.sites import Head
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.models.labels import head_label
from tiny_ablation.store.schema import at_strongest

if TYPE_CHECKING:
    from tiny_ablation.store.reader import Run

RANKINGS = ("signed", "absolute")
SCORE = "score"
"""What heads are ranked by where a file of any tool scores them: larger where the head helps more."""


@dataclass(frozen=True)
class HeadRanking:
    """The effects of single heads in an earlier run, or their scores in a file.

    Attributes:
        run_id: of that run; of a file its name and the beginning of its checksum.
        metric: its primary metric, which the effects are on; of a file `SCORE`.
        effects: the mean effect of each head that it measured, at the strongest factor, in the order of its table.
        examples: the ids of its examples; none of a file, which does not tell.
        unused: how many MLPs a file scores besides, which are never replaced.
    """

    run_id: str
    metric: str
    effects: dict[Head, float]
    examples: frozenset[str]
    unused: int = 0

    def ranked(self, by: str = "absolute") -> list[Head]:
        """The heads, the first to be taken first; ties stay in the order of the table.

        Args:
            by: `absolute`: the largest effects of either sign. `signed`: those whose removal harms the behaviour most; heads
                that work against it come last.
        """
        if by == "absolute":
            return sorted(self.effects, key=lambda head: -abs(self.effects[head]))
        sign = 1 if self.metric == SCORE else metric(self.metric).worse or -1
        return sorted(self.effects, key=lambda head: -sign * self.effects[head])


def load_ranking_run(directory: str) -> "Run":
    """The run that `ablation.from_run` names.

    Raises:
        ResultsError: there is none.
    """
    from tiny_ablation.store.reader import load_run

    return load_run(Path(directory))


def head_ranking(directory: str, shape: ModelShape) -> HeadRanking:
    """The effects of an earlier run over heads.

    Raises:
        ConfigError: that run was not over heads, or over another model's.
    """
    run, where = load_ranking_run(directory), f"ablation.from_run={directory}"
    if not run.over_heads:
        raise ConfigError(f"{where}: that run measured no heads one by one; give a run of heads_zero or heads_mean")
    rows = run.impact[run.impact["metric"] == run.summary["primary"]]
    rows = rows.loc[at_strongest(rows["scale"]), :]
    heads = list(zip(rows["layer"].tolist(), rows["head"].tolist(), strict=True))
    beyond = [head for head in heads if head[0] >= shape.n_layers or head[1] >= shape.n_heads]
    if beyond:
        raise ConfigError(
            f"{where} has head {head_label(*beyond[0])}, which this model does not have; the run is from another model"
        )
    effects = dict(zip(reversed(heads), reversed(rows["delta"].tolist()), strict=True))
    effects = {head: effects[head] for head in dict.fromkeys(heads)}
    return HeadRanking(run.manifest.run_id, run.summary["primary"], effects, frozenset(run.per_example["example_id"]))
