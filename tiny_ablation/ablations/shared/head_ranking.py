"""Heads as an earlier run ranked them (`ablation.from_run=DIR`), or a JSON file of any tool (`ablation.ranking=FILE`).

Three forms of files are read:

- the graph of EAP-IG and MIB, as `tiny-ablate export --format mib` writes it: heads are the nodes `a0.h1`. A head's score is
  that of its node or, where no head has one, the sum over the edges that leave it, which is what attribution patching gives for
  a node whose edges it scores (Hanna et al. 2024);
- scores by head: `{"L0H1": 0.5, "3.4": -0.1}`;
- heads in their order, the first to be taken first: `["L0H1", "L3H4"]`.

A larger score means that the head helps more. Heads without a score are not ranked, so they come last.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_ablation.ablations.shared.sites import Head, parse_head
from tiny_ablation.errors import ConfigError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.models.labels import head_label
from tiny_ablation.store.ledger import sha256_file
from tiny_ablation.store.reader import load_run
from tiny_ablation.store.schema import at_strongest

RANKINGS = ("signed", "absolute")
SCORE = "score"
"""What heads are ranked by where a file scores them."""
_KEY = "ablation.ranking"
_NODE, _MLP = re.compile(r"a(\d+)\.h(\d+)"), re.compile(r"m\d+")
_MOST_BYTES = 512 * 2**20  # a graph of a model of a few billion weights has some hundred megabytes of edges


@dataclass(frozen=True)
class HeadRanking:
    """The effects of single heads in an earlier run, or their scores in a file."""

    run_id: str  # of that run; of a file its name and the beginning of its checksum
    metric: str  # its primary metric, which the effects are on; of a file `SCORE`
    # the mean effect of each head that it measured, at the strongest factor, in the order of its table
    effects: dict[Head, float]
    examples: frozenset[str]  # the ids of its examples; empty for a file, which does not say
    unused: int = 0  # how many MLPs a file scores as well, which are never replaced

    def ranked(self, by: str = "absolute") -> list[Head]:
        """The heads, the first to be taken first; ties stay in the order of the table.

        `absolute` puts the largest effects of either sign first, `signed` the heads whose removal harms the behaviour most, so
        that heads which work against it come last.
        """
        if by == "absolute":
            return sorted(self.effects, key=lambda head: -abs(self.effects[head]))
        sign = 1 if self.metric == SCORE else metric(self.metric).worse or -1
        return sorted(self.effects, key=lambda head: -sign * self.effects[head])


def head_ranking(directory: str, shape: ModelShape) -> HeadRanking:
    """The effects of an earlier run over heads.

    Raises:
        ConfigError: that run was not over heads, or over another model's.
    """
    run, where = load_run(Path(directory)), f"ablation.from_run={directory}"
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


def ranking_path(given: str) -> Path:
    """The file that `ablation.ranking` names.

    Raises:
        ConfigError: there is none, or it is far larger than any ranking.
    """
    path = Path(given).expanduser()
    if not path.is_file():
        raise ConfigError(f"{_KEY}={given}: there is no such file")
    if path.stat().st_size > _MOST_BYTES:
        raise ConfigError(f"{_KEY}={given}: the file has more than {_MOST_BYTES >> 20} MB, which no ranking of heads has")
    return path


def ranking_of_file(given: str, shape: ModelShape) -> HeadRanking:
    """The scores that a file gives the heads of a model.

    Raises:
        ConfigError: it is in none of the three forms, or about another model; the message names the entry.
    """
    path = ranking_path(given)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{_KEY}={given} cannot be read as JSON: {error}") from error
    scores, unused = _scores(content, given, shape)
    if not scores:
        raise ConfigError(f"{_KEY}={given} scores no head of this model; nodes are named a0.h1, heads L0H1")
    return HeadRanking(f"{path.name} {sha256_file(path)[:12]}", SCORE, scores, frozenset(), unused)


def _scores(content: Any, given: str, shape: ModelShape) -> tuple[dict[Head, float], int]:
    """The score of each head, and how many MLPs have one as well."""
    key = f"{_KEY}={given}"
    if isinstance(content, Sequence) and not isinstance(content, str):
        return {parse_head(name, shape, key): float(len(content) - i) for i, name in enumerate(content)}, 0
    if not isinstance(content, Mapping):
        raise ConfigError(f"{key}: give a graph with nodes, scores by head, or a list of heads")
    nodes = content.get("nodes")
    if not isinstance(nodes, Mapping):
        return {parse_head(name, shape, key): _number(name, score, key) for name, score in content.items()}, 0
    own = _scored(nodes, key)
    if not any(_NODE.fullmatch(name) for name in own):
        own = {}
        for name, score in _scored(content.get("edges"), key).items():
            start = name.partition("->")[0]
            own[start] = own.get(start, 0.0) + score
    found = {}
    for name, score in own.items():
        if match := _NODE.fullmatch(name):
            found[parse_head(head_label(match[1], match[2]), shape, key)] = score
    return found, sum(_MLP.fullmatch(name) is not None for name in own)


def _scored(entries: Any, key: str) -> dict[str, float]:
    """Those nodes or edges that have a score."""
    found = {}
    for name, entry in entries.items() if isinstance(entries, Mapping) else ():
        score = entry.get("score") if isinstance(entry, Mapping) else None
        if score is not None and not (isinstance(score, float) and math.isnan(score)):
            found[name] = _number(name, score, key)
    return found


def _number(name: str, score: Any, key: str) -> float:
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ConfigError(f"{key}: the score of {name} is {score!r}, which is no finite number")
    return float(score)
