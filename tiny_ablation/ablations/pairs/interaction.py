"""Whether two heads do more, or less, together than the sum of what each does alone.

The interaction is E(ab) - E(a) - E(b), computed per example and averaged. Below zero for a behaviour that both carry: each is
the other's backup, and removing one hides what the pair does. The pair matrix has heads on both axes, each pair once, coloured
by its interaction; the diagonal is empty, since a head is no pair.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tiny_ablation.config.seeds import generator
from tiny_ablation.document import Figure, Section, Table
from tiny_ablation.document.figures import Grid, GridPanel, symmetric_limit
from tiny_ablation.formats import bounds, decimals, holds_zero, interval, probability, signed
from tiny_ablation.models.labels import head_label, site_label
from tiny_ablation.run import effects, vocabulary
from tiny_ablation.run.measure import Measured, aligned
from tiny_ablation.run.prepare import PreparedRun
from tiny_ablation.run.result import Result
from tiny_ablation.stats.clusters import cluster_sums
from tiny_ablation.stats.fdr import LEVEL, first_step, q_values
from tiny_ablation.stats.means import cluster_means
from tiny_ablation.store.schema import TABLES

_SHOWN = 8


def interaction_columns(prepared: PreparedRun, pairs: Measured, measured: Sequence[Measured], metric: str) -> dict[str, Any]:
    """For each pair, both single effects and the interaction with its interval and test; each (n_pairs,).

    The q-values are over all pairs of the metric: among many pairs some interval always excludes 0 by chance. All columns are
    NaN where the run was stopped before any example of the single heads was finished; these are the arm of `measured` that is
    not in the table, as pairs of a head with itself.
    """
    names = TABLES["pair_impact"].extra
    singles = next((m for m in measured if not m.arm.in_table), None)
    if singles is None:
        return dict.fromkeys(names, np.nan)
    pairs, singles = aligned([pairs, singles])
    if not len(pairs.examples):
        return dict.fromkeys(names, np.nan)
    alone = singles.delta(metric)
    place = {(row.key["layer_a"], row.key["head_a"]): i for i, row in enumerate(singles.arm.rows)}
    a, b = (alone[[place[row.key[f"layer_{end}"], row.key[f"head_{end}"]] for row in pairs.arm.rows]] for end in ("a", "b"))
    root = prepared.spec.settings.root
    sums, sizes = cluster_sums(pairs.delta(metric) - a - b, pairs.groups)
    method = root.stats.fdr.value
    found = cluster_means(
        sums,
        sizes,
        rng=generator(root.seed, "bootstrap", metric, "interaction"),
        confidence=root.stats.confidence,
        n_boot=root.stats.n_boot,
        step=first_step(len(sums), LEVEL, method),
        n_draws=root.stats.n_perm,
    )
    columns = (a.mean(1), b.mean(1), *found, q_values(found.p, method))
    return dict(zip(names, columns, strict=True))


def interactions(rows: pd.DataFrame) -> dict[str, Any] | None:
    """The pairs whose interaction has q of at most .05, the largest first, and how many were tested.

    `rows` are those of the impact table on one metric. None where no example was finished.
    """
    if rows["interaction"].isna().to_numpy().all():
        return None
    table = TABLES["pair_impact"]
    pairs = [
        {"pair": site_label({name: row[name] for name in table.index}), **{name: row[name] for name in table.extra}}
        for row in rows.to_dict("records")
        if row["interaction_q"] <= LEVEL
    ]
    found = sorted(pairs, key=lambda pair: -abs(pair["interaction"]))
    return {"metric": rows["metric"].iloc[0], "n": len(rows), "pairs": found}


def sections(found: Mapping[str, Any] | None) -> list[Section]:
    """Which pairs do more together than both alone, and which do less."""
    if not found:
        return []
    metric, pairs = found["metric"], found["pairs"]
    more = [pair for pair in pairs if pair["interaction"] * (pair["delta_a"] + pair["delta_b"]) > 0]
    text = [
        f"Of {found['n']} pairs, {len(pairs)} interact (q at most {LEVEL:g}): {len(more)} where the two change {metric} by "
        "more than the sum of both alone, so that each does some of the other's work when that one is gone, and "
        f"{len(pairs) - len(more)} where they change it by less, or against it: what one head does goes through the other, or "
        "the behaviour has no more to lose."
    ]
    first = (more or pairs or [None])[0]
    if first is None:
        headline = f"No two heads are shown to stand in for each other: no pair interacts on {metric}."
    else:
        together = first["delta_a"] + first["delta_b"] + first["interaction"]
        headline = (
            f"{first['pair']} {'stand in for each other' if more else 'overlap'}: together they change {metric} by "
            f"{signed(together, 3)}, and alone by {signed(first['delta_a'], 3)} and {signed(first['delta_b'], 3)}."
        )
    rows = [
        (
            pair["pair"],
            signed(pair["delta_a"], 3),
            signed(pair["delta_b"], 3),
            signed(pair["interaction"], 3),
            bounds(pair["interaction_low"], pair["interaction_high"], 3),
            probability(pair["interaction_q"]),
        )
        for pair in pairs[:_SHOWN]
    ]
    caption = (
        "The pairs that interact: both effects alone, and what the pair does beyond their sum, with its interval and q over "
        "all pairs."
    )
    table = Table(caption, ("pair", "first", "second", "beyond the sum", "interval", "q"), rows)
    return [Section("Interactions", text, [table] if pairs else (), headline, firm=bool(pairs))]


def pair_matrix(result: Result) -> Figure:
    """The interactions of every pair: the earlier head down, the later across.

    Raises:
        ResultsError: the table has no effect on the metric.
    """
    rows, metric = result.rows, result.metric
    ends = [list(zip(rows[f"layer_{end}"], rows[f"head_{end}"], strict=True)) for end in ("a", "b")]
    heads = sorted({head for end in ends for head in end})
    place = {head: i for i, head in enumerate(heads)}
    n, places = len(heads), decimals(rows["interaction"])
    values, resolved = np.full((n, n), np.nan), np.zeros((n, n), dtype=bool)
    hover: list[list[tuple[str, ...]]] = [[()] * n for _ in heads]
    for a, b, row in zip(*ends, rows.to_dict("records"), strict=True):
        i, j = sorted((place[a], place[b]))
        low, high = row["interaction_low"], row["interaction_high"]
        values[i, j], resolved[i, j] = row["interaction"], not holds_zero(low, high)
        numbers = (signed(row[name], places) for name in ("interaction", "delta", "delta_a", "delta_b"))
        hover[i][j] = *numbers, interval(low, high, places)
    labels = [head_label(layer, head) for layer, head in heads]
    grid = Grid(
        name=f"pair-matrix-{metric}",
        kind="Pair matrix",
        title=result.title,
        note=f"{effects.examples(rows)}; joint effect on {metric} minus the two single effects; grey dot: the "
        f"{result.percent} interval includes 0",
        rows=labels,
        columns=labels,
        axes=("earlier head", "later head"),
        colour=f"interaction in {metric} ({vocabulary.metric_vocabulary(metric).unit})",
        limit=symmetric_limit(rows["interaction"]),
        panels=[GridPanel("", values, resolved, hover)],
        square=True,
        hover=f"interaction {{0}}\n{result.percent} interval {{4}}\ntogether {{1}}, alone {{2}} and {{3}}",
    )
    return Figure(
        "pair_matrix",
        "Pairs of heads: more than the sum of two?",
        "Heads on both axes. Colour is the interaction: the joint effect minus the two single effects. A grey dot is one "
        "whose interval includes 0; an empty cell was not measured.",
        grid,
    )
