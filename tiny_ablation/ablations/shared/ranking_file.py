"""A ranking of heads from a JSON file of any tool: what `ablation.ranking=FILE` names.

Three forms are read:

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
from pathlib import Path
from typing import Any

from tiny_ablation.ablations.shared.head_ranking import SCORE, HeadRanking
from tiny_ablation.ablations.shared.sites import Head, parse_head
from tiny_ablation.errors import ConfigError
from tiny_ablation.models.hookpoints import ModelShape
from tiny_ablation.models.labels import head_label
from tiny_ablation.store.ledger import sha256_file

_KEY = "ablation.ranking"
_NODE, _MLP = re.compile(r"a(\d+)\.h(\d+)"), re.compile(r"m\d+")
_MOST_BYTES = 512 * 2**20  # a graph of a model of a few billion weights has some hundred megabytes of edges


def ranking_path(given: str) -> Path:
    """The file.

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
        ConfigError: it is of none of these forms, or of another model; the message names the entry.
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
    """The scores, and how many MLPs have one as well."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        return {_head(name, given, shape): float(len(content) - i) for i, name in enumerate(content)}, 0
    if not isinstance(content, Mapping):
        raise ConfigError(f"{_KEY}={given}: give a graph with nodes, scores by head, or a list of heads")
    nodes = content.get("nodes")
    if not isinstance(nodes, Mapping):
        return {_head(name, given, shape): _number(name, score, given) for name, score in content.items()}, 0
    own = {name: score for name, node in nodes.items() if (score := _of_node(name, node, given)) is not None}
    if not any(_NODE.fullmatch(name) for name in own):
        own = _of_edges(content.get("edges"), given)
    found = {}
    for name, score in own.items():
        if match := _NODE.fullmatch(name):
            found[_head(head_label(match[1], match[2]), given, shape)] = score
    return found, sum(_MLP.fullmatch(name) is not None for name in own)


def _of_node(name: str, node: Any, given: str) -> float | None:
    score = node.get("score") if isinstance(node, Mapping) else None
    if score is None or (isinstance(score, float) and math.isnan(score)):
        return None
    return _number(name, score, given)


def _of_edges(edges: Any, given: str) -> dict[str, float]:
    """For each node the sum of the scores of the edges that leave it."""
    found: dict[str, float] = {}
    for name, edge in edges.items() if isinstance(edges, Mapping) else ():
        if (score := _of_node(name, edge, given)) is not None:
            start = name.partition("->")[0]
            found[start] = found.get(start, 0.0) + score
    return found


def _head(name: Any, given: str, shape: ModelShape) -> Head:
    return parse_head(name, shape, f"{_KEY}={given}")


def _number(name: str, score: Any, given: str) -> float:
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise ConfigError(f"{_KEY}={given}: the score of {name} is {score!r}, which is no finite number")
    return float(score)
