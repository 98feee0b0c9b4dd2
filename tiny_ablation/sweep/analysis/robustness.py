"""Does the same follow whatever is put in a head's place? Heads across replacements and weight processing.

Zero, mean, resample and patch ask different questions (Miller et al. 2024), and zero ablation depends on how weights were
folded. A head that matters under all of them is a finding about the model; one that matters under one may be one about the
method. Reads finished runs over heads and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.config.seeds import generator
from tiny_ablation.data.text import listing
from tiny_ablation.errors import ResultsError
from tiny_ablation.models.labels import head_label
from tiny_ablation.stats.clusters import Floats, cluster_sums, excludes_zero
from tiny_ablation.stats.conjunction import same_sign_everywhere
from tiny_ablation.stats.fdr import LEVEL, first_step, q_values
from tiny_ablation.stats.means import cluster_means
from tiny_ablation.stats.ranks import rank_biased_overlap, spearman
from tiny_ablation.store.reader import Run, effects_by_example
from tiny_ablation.store.schema import at_strongest

N_BOOT = 2000


@dataclass(frozen=True)
class RobustnessTables:
    """What is the same under several interventions."""

    # a row per pair of conditions, each with itself included: `spearman` over all heads; among the `k` strongest of either,
    # `sign_agreement`, the share with one sign; `jaccard` of the two top sets and `rank_biased_overlap` of the two orders
    agreement: pd.DataFrame
    # a row per head: its effect under each condition (`delta/<condition>`) and whether its interval excludes 0
    # (`resolved/<condition>`), in how many it is among the top k (`n_top`), in how many its interval excludes 0 (`n_resolved`),
    # the largest p-value of all conditions (1 where signs differ) with its q-value over heads, and `holds`: q at most .05, so
    # that of the heads that are said to hold at most 5 % are expected not to
    heads: pd.DataFrame
    summary: dict[str, Any]  # both in short, for JSON


@dataclass(frozen=True)
class _HeadEffects:
    """One condition: effects of the common heads on the common examples, each (n_heads,)."""

    label: str
    delta: Floats
    low: Floats
    high: Floats
    p: Floats

    def order(self, k: int) -> list[int]:
        """The `k` strongest heads."""
        return np.argsort(-np.abs(self.delta), kind="stable")[:k].tolist()


class NothingShared(ResultsError):
    """Runs whose seeds draw other examples, or whose heads differ, have nothing that could be compared."""


def condition_of(run: Run) -> str:
    """What was done, and to which weights, such as `mean_template folded`."""
    replacement = ", ".join(sorted(set(run.impact["replacement"].dropna()) - {"scale"}))
    return f"{replacement or 'scale'} {run.config['model']['weights']}"


def robustness(runs: Sequence[Run], k: int = 10) -> RobustnessTables:
    """Compare the heads of finished runs of one model, data set and primary metric; a top set has `k` heads.

    Runs of one condition (seeds) are averaged. Only heads and examples that all runs have are compared.

    Raises:
        ResultsError: there are fewer than two conditions, or the runs cannot be compared.
    """
    if wrong := [run for run in runs if not run.over_heads]:
        raise ResultsError(f"{wrong[0].dir.path} measured no heads one by one; robustness compares runs over heads")
    for what in ("model", "dataset", "primary"):
        if len(values := sorted({str(run.summary[what]) for run in runs})) > 1:
            raise ResultsError(f"robustness compares runs with one {what}; these have {', '.join(values)}")
    labels = [condition_of(run) for run in runs]
    if len({*labels}) < 2:
        raise ResultsError("robustness needs runs with at least two replacements, or both kinds of weights")
    metric = runs[0].summary["primary"]
    about = {name: runs[0].summary[name] for name in ("model", "dataset")}
    rows = [run.per_example.loc[at_strongest(run.per_example["scale"]), :] for run in runs]
    tables = [effects_by_example(each, metric, ("layer", "head")) for each in rows]
    heads, examples = tables[0].index, tables[0].columns
    for table in tables[1:]:
        heads, examples = heads.intersection(table.index), examples.intersection(table.columns)
    if len(heads) < 2 or examples.empty:
        raise NothingShared("these runs have fewer than two heads, or no example, in common")
    k = min(k, max(1, len(heads) // 2))
    groups = runs[0].per_example.drop_duplicates("example_id").set_index("example_id")["group"].loc[examples].tolist()
    level = runs[0].summary.get("confidence", 0.95)
    values = [table.loc[heads, examples].to_numpy() for table in tables]
    found = [
        condition_effects(label, [v for v, of in zip(values, labels, strict=True) if of == label], groups, level)
        for label in dict.fromkeys(labels)
    ]
    names = [(int(layer), int(head)) for layer, head in heads]
    agreement, of_heads = _agreement(found, k), heads_table(found, names, k)
    return RobustnessTables(agreement, of_heads, about | _summary(found, of_heads, agreement, metric, k, len(examples)))


def sweep_robustness(runs: Sequence[Run]) -> RobustnessTables | None:
    """As `robustness`; None where the runs of a sweep do not ask one question of one model in several ways.

    Raises:
        NothingShared: they do, but of no example that all have.
    """
    asked = {(run.summary["model"], run.summary["dataset"], run.summary["primary"]) for run in runs}
    if len(asked) != 1 or not all(run.over_heads for run in runs):
        return None
    if len({condition_of(run) for run in runs}) < 2:
        return None
    return robustness(runs)


def condition_effects(label: str, seeds: Sequence[Floats], groups: Sequence[str], confidence: float) -> _HeadEffects:
    """The effects of one condition, each seed (n_heads, n_examples), with their intervals and tests."""
    sums, sizes = cluster_sums(np.mean(seeds, axis=0), groups)
    rng, step = generator(0, "bootstrap", "robustness"), first_step(len(sums), LEVEL)
    return _HeadEffects(label, *cluster_means(sums, sizes, rng=rng, confidence=confidence, n_boot=N_BOOT, step=step))


def _agreement(found: Sequence[_HeadEffects], k: int) -> pd.DataFrame:
    rows = []
    for a, b in combinations_with_replacement(found, 2):
        top_a, top_b = a.order(k), b.order(k)
        either = sorted({*top_a, *top_b})
        rows.append(
            {
                "condition_a": a.label,
                "condition_b": b.label,
                "n_heads": len(a.delta),
                "k": k,
                "spearman": spearman(a.delta, b.delta),
                "sign_agreement": float((np.sign(a.delta[either]) == np.sign(b.delta[either])).mean()),
                "jaccard": len({*top_a} & {*top_b}) / len(either),
                "rank_biased_overlap": rank_biased_overlap(top_a, top_b),
            }
        )
    return pd.DataFrame(rows)


def heads_table(found: Sequence[_HeadEffects], names: Sequence[tuple[int, int]], k: int) -> pd.DataFrame:
    """`RobustnessTables.heads`."""
    deltas = np.array([f.delta for f in found])  # (conditions, heads)
    resolved = np.array([excludes_zero(f.low, f.high) for f in found])
    p = same_sign_everywhere(np.array([f.p for f in found]), deltas)
    q = q_values(p)
    tops = [f.order(k) for f in found]
    layers, heads = np.array(names, dtype="int32").T
    frame = pd.DataFrame(
        {
            "layer": layers,
            "head": heads,
            "n_top": np.array([sum(i in top for top in tops) for i in range(len(names))], dtype="int32"),
            "n_resolved": resolved.sum(0).astype("int32"),
            "one_sign": (deltas > 0).all(0) | (deltas < 0).all(0),
            "p_value": p,
            "q_value": q,
            "holds": q <= LEVEL,
        }
    )
    by_condition = {f"delta/{f.label}": f.delta for f in found}
    by_condition |= {f"resolved/{f.label}": sure for f, sure in zip(found, resolved, strict=True)}
    return frame.assign(**by_condition)


def _summary(
    found: Sequence[_HeadEffects], heads: pd.DataFrame, agreement: pd.DataFrame, metric: str, k: int, n_examples: int
) -> dict[str, Any]:
    holding = heads.loc[heads["holds"].to_numpy(), :]
    columns = [f"delta/{f.label}" for f in found]
    least = holding[columns].abs().min(axis=1)
    holding = holding.iloc[np.argsort(-least.to_numpy(), kind="stable")]
    pairs = agreement.loc[(agreement["condition_a"] != agreement["condition_b"]).to_numpy(), :]
    holds = []
    for row in holding.to_dict("records"):
        numbers = {name: int(row[name]) for name in ("layer", "head", "n_top")} | {"q_value": float(row["q_value"])}
        holds.append(numbers | {"delta": {f.label: float(row[f"delta/{f.label}"]) for f in found}})
    return {
        "metric": metric,
        "k": k,
        "n_heads": len(heads),
        "n_examples": n_examples,
        "conditions": [f.label for f in found],
        "holds": holds,
        "lowest": {name: float(pairs[name].min()) for name in ("spearman", "sign_agreement", "jaccard", "rank_biased_overlap")},
        "agreement": agreement.to_dict("records"),
    }


def robustness_lines(summary: Mapping[str, Any]) -> list[str]:
    """The summary in words."""
    holds, lowest, n = summary["holds"], summary["lowest"], len(summary["conditions"])
    names = listing([head_label(head["layer"], head["head"]) for head in holds])
    return [
        f"{len(holds)} of {summary['n_heads']} heads hold under all {n} conditions ({', '.join(summary['conditions'])}): an "
        f"effect of one sign in each, q at most {LEVEL:g} over heads{f': {names}' if names else ''}.",
        f"Between the two conditions that agree least, ranks correlate {lowest['spearman']:.2f} and the top {summary['k']} "
        f"share a Jaccard overlap of {lowest['jaccard']:.2f}; signs of the strongest agree in at least "
        f"{lowest['sign_agreement']:.0%}.",
    ]
