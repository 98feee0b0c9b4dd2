"""A run as the graph that EAP-IG writes and the circuit track of the MIB benchmark loads.

A JSON object of `cfg` (`n_layers`, `n_heads`, `d_model`, `parallel_attn_mlp`), `nodes` (by name `in_graph` and, where there is
one, `score`) and `edges` (by name `score`, `in_graph`). Nodes are `input`, the heads `a0.h0`, the MLPs `m0` and `logits`; an
edge goes from each to whatever reads it, three times to a head: `input->a0.h0<q>`. A node without a score is never taken out of
a circuit.

What is scored here are nodes, so edges have score 0, and are in the graph where both of their ends are. The score of a node is
how much its removal harms the behaviour by the primary metric, in its unit: positive where the node helps, as EAP-IG's are with
a loss.

References: `Graph.to_json`, `Graph.from_json` in src/eap/graph.py of github.com/hannamw/EAP-IG (Hanna et al. 2024); the loader
of github.com/hannamw/MIB-circuit-track (Mueller et al. 2025), which takes the same keys.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tiny_ablation.ablations.registry import find_ablation
from tiny_ablation.errors import ResultsError
from tiny_ablation.metrics.registry import metric
from tiny_ablation.run import effects

if TYPE_CHECKING:
    from tiny_ablation.store.reader import Run


def node_graph(run: "Run", *, ranking: str = "signed", size: int | None = None) -> dict[str, Any]:
    """The graph of a run over heads or MLPs with all nodes and their scores, or of a run over circuits with those of one.

    Of circuits, `ranking` says whose heads were kept, `signed` or `absolute`, and `size` how many; None takes the fewest that
    carry the behaviour.

    Raises:
        ResultsError: the run has no such effects, not of every head or MLP, or no such circuit.
    """
    cfg = run.provenance.get("model_graph")
    if not cfg:
        raise ResultsError(f"{run.dir.path} does not say how large its model is; run again with this version")
    nodes = [name for layer in _layers(cfg) for name in layer]
    ablation = find_ablation(run.summary["kind"])
    if ablation.has_circuits:
        scores: Mapping[str, float] = {}
        heads = [f"a{layer}.h{head}" for layer, head in ablation.circuit(run, ranking, size)]
        kept = {"input", "logits", *(n for n in nodes if n.startswith("m")), *heads}
    else:
        scores, kept = _scores(run, nodes), {"input", "logits", *nodes}
    score = lambda name: {"score": scores[name]} if name in scores else {}  # noqa: E731
    return {
        "cfg": cfg,
        "nodes": {n: {"in_graph": n in kept, **score(n)} for n in ("input", *nodes, "logits")},
        "edges": {f"{a}->{b}{which}": {"score": 0.0, "in_graph": a in kept and b in kept} for a, b, which in _edges(cfg)},
    }


def _layers(cfg: Mapping[str, Any]) -> list[list[str]]:
    """The nodes of each layer, the MLP last."""
    return [[*(f"a{layer}.h{head}" for head in range(cfg["n_heads"])), f"m{layer}"] for layer in range(cfg["n_layers"])]


def _edges(cfg: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Parent, child, and which input of it."""
    before = ["input"]
    for *heads, mlp in _layers(cfg):
        yield from ((node, head, f"<{which}>") for node in before for head in heads for which in "qkv")
        read = before if cfg["parallel_attn_mlp"] else [*before, *heads]
        yield from ((node, mlp, "") for node in read)
        before = [*before, *heads, mlp]
    yield from ((node, "logits", "") for node in before)


def _scores(run: "Run", nodes: Collection[str]) -> dict[str, float]:
    primary = run.summary["primary"]
    sign = metric(primary).worse
    if not sign:
        raise ResultsError(f"{primary} says neither way that the model gets worse; run with another metrics.primary")
    rows = run.impact.loc[(run.impact["metric"] == primary) & run.impact["delta"].notna(), :]
    rows = effects.at_scale(rows, effects.scales(rows)[0])
    kinds = {*zip(rows["component"], rows["set"], rows["positions"], strict=True)}
    if run.table_name == "head_impact" and kinds == {("z", "single", "all")}:
        names = [f"a{layer}.h{head}" for layer, head in zip(rows["layer"], rows["head"], strict=True)]
    elif run.table_name == "layer_impact" and kinds == {("mlp_out", "single", "all")}:
        names = [f"m{layer}" for layer in rows["layer"]]
    else:
        raise ResultsError(
            f"{run.dir.path} has no effects of whole heads or MLPs at all positions, which are the nodes of the graph; give a "
            "run of heads or MLPs, or of circuits"
        )
    kind = names[0][0]
    missing = [node for node in nodes if node[0] == kind and node not in names]
    if missing:
        raise ResultsError(
            f"{len(missing)} of the model's nodes have no effect, such as {missing[0]}, and would be in every circuit; run "
            "over all of them, without ablation.layers, heads or screen"
        )
    if len({*names}) < len(names):
        raise ResultsError(f"{run.dir.path} has several effects of one node, such as {names[0]}")
    return dict(zip(names, (sign * rows["delta"]).tolist(), strict=True))
